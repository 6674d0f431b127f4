"""Synthetic videos: reproducible, exact, of any size, and classes that only shape tells apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from queryinst_vis import cli
from queryinst_vis.data.synthetic import PRESETS, SyntheticSettings, generate
from queryinst_vis.data.synthetic.render import render
from queryinst_vis.data.synthetic.scene import Scene, draw_scene
from queryinst_vis.errors import InputError
from queryinst_vis.masks import decode_rle
from tests.synthetic_support import BENCH, TINY, WrittenSet, files_below

# Reproducible


def test_the_same_seed_writes_identical_files(tmp_path):
    generate(tmp_path / "a", TINY, seed=3)
    generate(tmp_path / "b", TINY, seed=3)
    first = files_below(tmp_path / "a")
    assert set(first) == {
        "youtube_vis.json",
        "coco.json",
        *(f"frames/{video:04d}/{frame:05d}.jpg" for video in range(2) for frame in range(3)),
    }
    assert first == files_below(tmp_path / "b")


def test_another_seed_gives_other_videos(tmp_path):
    generate(tmp_path / "a", TINY, seed=3)
    generate(tmp_path / "b", TINY, seed=4)
    first, second = files_below(tmp_path / "a"), files_below(tmp_path / "b")
    assert set(first) == set(second)
    assert not [name for name in first if first[name] == second[name]]


def test_a_video_does_not_depend_on_the_number_of_videos(tmp_path):
    generate(tmp_path / "two", TINY, seed=3)
    generate(tmp_path / "three", TINY.override(videos=3), seed=3)
    two, three = files_below(tmp_path / "two"), files_below(tmp_path / "three")
    frames = {name for name in two if name.startswith("frames/")}
    assert len(frames) == 6
    assert {name: two[name] for name in frames} == {name: three[name] for name in frames}


# Exact


def test_object_edges_in_the_image_agree_with_the_mask():
    """White shapes on black: brighter than mid-grey exactly where the mask is."""
    white, black = (np.full((32, 32, 3), value, np.float32) for value in (255, 0))
    scene = draw_scene(BENCH.override(objects=(6, 6)), np.random.default_rng(1))
    for shape in scene.objects:
        alone = Scene(black, scene.background_motion, [replace(shape, tile=white)])
        for frame in render(alone, 3, BENCH.height, BENCH.width):
            mask = frame.owner == 0
            assert mask.sum() == frame.extent[0]
            assert np.array_equal(frame.image[..., 0] >= 128, mask)


def test_every_object_of_a_scene_is_visible_in_some_frame(tmp_path):
    """A random scene with an object that is never visible is drawn again."""
    settings = SyntheticSettings(1, 2, 32, 32, min_objects=5, max_objects=5)

    def hides_an_object(seed):
        scene = draw_scene(settings, np.random.default_rng([seed, 0]))
        visible = [frame.visible for frame in render(scene, 2, 32, 32)]
        return np.max(visible, axis=0).min() < 20

    seed = next(seed for seed in range(50) if hides_an_object(seed))
    generate(tmp_path / "set", settings, seed)
    tracks = WrittenSet(tmp_path / "set").tracks
    assert len(tracks) == 5
    assert all(any(track["segmentations"]) for track in tracks)
    assert len(list((tmp_path / "set" / "frames" / "0000").iterdir())) == 2


# Appearance of the classes


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Colours and box fill of about 400 visible objects: ``(labels, colours, fill)``."""
    folder = tmp_path_factory.mktemp("sample") / "set"
    generate(folder, PRESETS["train"].override(videos=110, frames=1), seed=11)
    written = WrittenSet(folder)
    labels, colours, fill = [], [], []
    for video in written.videos:
        image = written.image(video["file_names"][0]).astype(float)
        for track in written.tracks_of(video):
            pixels = image[decode_rle(track["segmentations"][0])]
            labels.append(track["category_id"] - 1)
            colours.append([*pixels.mean(0), *pixels.std(0)])
            _, _, width, height = track["bboxes"][0]
            fill.append([len(pixels) / (width * height)])
    return np.array(labels), np.array(colours), np.array(fill)


def accuracy_of_nearest_class_mean(labels, features):
    """Trained on the first half of the objects, measured on the second."""
    features = (features - features.mean(0)) / features.std(0)
    half = len(labels) // 2
    means = np.stack([features[:half][labels[:half] == label].mean(0) for label in range(6)])
    distance = np.linalg.norm(features[half:, None] - means, axis=2)
    return (distance.argmin(1) == labels[half:]).mean()


def test_colour_and_contrast_do_not_predict_the_class(sample):
    labels, colours, fill = sample
    assert np.bincount(labels).min() > 50
    assert accuracy_of_nearest_class_mean(labels, colours) < 1 / 6 + 0.07  # three sigma
    # The same guess from the share of its box that an object fills does far better.
    assert accuracy_of_nearest_class_mean(labels, fill) > 1 / 6 + 0.15


def test_mean_colours_of_the_classes_do_not_differ_significantly(sample):
    labels, colours, _ = sample
    for label in range(6):
        mine, others = colours[labels == label], colours[labels != label]
        error = np.sqrt(mine.var(0) / len(mine) + others.var(0) / len(others))
        assert (np.abs(mine.mean(0) - others.mean(0)) < 4 * error).all()


# The files


def test_videos_are_written_from_the_frames_before_any_json(tmp_path):
    calls = []

    def write_video(path, frames, fps):
        folder = path.parents[1]
        assert not list(folder.glob("*.json")) and list(folder.rglob("*.jpg"))
        calls.append((path.relative_to(folder).as_posix(), list(frames), fps))

    generate(tmp_path / "set", TINY, 3, write_video)
    assert [call[0] for call in calls] == ["videos/0000.mp4", "videos/0001.mp4"]
    written = WrittenSet(tmp_path / "set")
    for (_, frames, fps), video in zip(calls, written.videos, strict=True):
        assert fps == TINY.fps
        for frame, name in zip(frames, video["file_names"], strict=True):
            difference = np.abs(frame.astype(int) - written.image(name))
            assert difference.mean() < 6  # JPEG keeps colours at half the resolution


# Refusals and failures


@pytest.mark.parametrize("stop", [InputError("disk full"), KeyboardInterrupt()])
def test_a_failed_generation_leaves_no_files(tmp_path, stop):
    def write_video(path, frames, fps):
        assert list(tmp_path.rglob("*.jpg"))
        raise stop

    with pytest.raises(type(stop)):
        generate(tmp_path / "set", TINY, 3, write_video)
    assert list(tmp_path.iterdir()) == []


def test_a_non_empty_folder_is_refused_and_not_modified(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"is not an empty folder"):
        generate(tmp_path, TINY, 0)
    assert files_below(tmp_path) == {"frames/mine.txt": b"keep"}


def test_a_file_as_target_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"file is not an empty folder"):
        generate(tmp_path / "file", TINY, 0)


def test_a_negative_seed_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="seed -1 "):
        generate(tmp_path / "set", TINY, -1)
    assert not (tmp_path / "set").exists()


def test_more_objects_than_can_be_visible_are_refused(tmp_path):
    crowded = SyntheticSettings(1, 1, 32, 32, min_objects=25, max_objects=25)
    with pytest.raises(InputError, match=r"25 objects .*32x32 pixels"):
        generate(tmp_path / "set", crowded, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"videos": 0}, "videos and frames must be at least 1"),
        ({"frames": 0}, "videos and frames must be at least 1"),
        ({"width": 31}, "frames of 31x160 pixels; width and height must be 32 to 16384"),
        ({"height": 16385}, "frames of 256x16385 pixels"),
        ({"min_objects": 0}, "0 to 6 objects per video; expected 1 <= min_objects"),
        ({"max_objects": 1}, "2 to 1 objects per video"),
        ({"diameter": (0.0, 0.5)}, "diameter 0.0..0.5 is not within 0..2"),
        ({"speed": (0.3, 0.2)}, "speed 0.3..0.2 is not within 0..2"),
        ({"meeting": 1.5}, "meeting 1.5 is not within 0..1"),
        ({"fps": 0.0}, "0 frames per second; must be above 0"),
    ],
)
def test_settings_out_of_range_are_refused(values, message):
    with pytest.raises(InputError) as error:
        SyntheticSettings(**values)
    assert message in str(error.value)


# Overrides of the presets


def test_overrides_change_only_the_named_settings():
    assert BENCH.override() == BENCH
    changed = BENCH.override(videos=3, frames=4, size=(320, 240), objects=(1, 2))
    assert changed == replace(
        BENCH, videos=3, frames=4, width=320, height=240, min_objects=1, max_objects=2
    )


def test_with_more_objects_they_are_smaller_and_meet_less_often():
    crowded = BENCH.override(objects=(20, 24))
    assert (crowded.min_objects, crowded.max_objects) == (20, 24)
    assert crowded.diameter == pytest.approx(tuple(side / 2 for side in BENCH.diameter))
    assert crowded.meeting == pytest.approx(BENCH.meeting / 4)


def test_many_objects_are_at_least_12_pixels_in_diameter():
    assert min(BENCH.override(objects=(200, 200)).diameter) * 160 == pytest.approx(12)


@pytest.mark.parametrize(
    ("size", "objects"),
    [((32, 32), (1, 4)), ((161, 97), (30, 30)), ((256, 160), (100, 100)), ((480, 40), (3, 3))],
)
def test_frame_size_and_object_count_are_as_requested(tmp_path, size, objects):
    settings = PRESETS["train"].override(videos=2, frames=2, size=size, objects=objects)
    generate(tmp_path / "set", settings, 5)
    written = WrittenSet(tmp_path / "set")
    for video in written.videos:
        assert objects[0] <= len(written.tracks_of(video)) <= objects[1]
        assert written.image(video["file_names"][1]).shape == (size[1], size[0], 3)


def test_command_line_overrides_the_preset(tmp_path, capsys):
    words = f"--preset bench --videos 1 --frames 2 --size 80x64 --objects 3-3 --seed 4 {tmp_path}/s"
    assert cli.main(["convert-dataset", "synthetic", *words.split()]) == 0
    printed = capsys.readouterr().out
    assert "1 of 2 frames, 80x64 pixels" in printed
    assert "3 to 3" in printed
    video = WrittenSet(tmp_path / "s").videos[0]
    assert (video["length"], video["width"], video["height"]) == (2, 80, 64)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--videos 0", "expected a positive integer, got '0'"),
        ("--frames two", "expected a positive integer, got 'two'"),
        ("--size 256", "expected WxH such as 256x160, got '256'"),
        ("--size 16x160", "width and height must be 32 to 16384"),
        ("--objects 5", "expected MIN-MAX such as 2-6, got '5'"),
        ("--objects 6-2", "6 to 2 objects per video"),
        ("--objects 0-0", "0 to 0 objects per video"),
    ],
)
def test_bad_command_line_options_are_refused_in_one_line(tmp_path, capsys, words, message):
    target = tmp_path / "set"
    assert cli.main(["convert-dataset", "synthetic", str(target), *words.split()]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not target.exists()
