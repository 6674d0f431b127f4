"""Crops, mattes, drawing styles and redaction in the outputs of ``track``."""

import cv2
import numpy as np
import pytest
import supervision as sv
import torch

from queryinst_vis.drawing import DrawingStyle, Redaction
from queryinst_vis.errors import InputError, InputWarning
from queryinst_vis.inference import track
from queryinst_vis.inference.outputs.crops import CROPS_PER_TRACK
from queryinst_vis.inference.track import track_video
from queryinst_vis.video import VideoReader, VideoWriter
from tests.tiny import HEIGHT, WIDTH, draw_frame, rectangles
from tests.tracking_support import FRAMES, KnowingTracker


@pytest.fixture
def out(tmp_path, monkeypatch):
    monkeypatch.setattr(track, "load_tracker", lambda *_: KnowingTracker())
    return tmp_path / "out"


def test_crops_show_each_track_with_its_id_and_frame(video, out):
    track_video(video, out, save=["crops"])
    names = sorted(path.name for path in (out / "crops").iterdir())
    assert {name[:9] for name in names} == {"track0000", "track0001"}
    for name in names:
        picture = cv2.imread(str(out / "crops" / name))[..., ::-1]
        track_id, frame = int(name[5:9]), int(name[15:21])
        x0, y0, x1, y1 = rectangles(frame)[track_id]
        assert picture.shape[0] == pytest.approx(1.2 * (y1 - y0), abs=4)
        assert picture.shape[1] <= 1.2 * (x1 - x0) + 4
        inside = picture[picture.shape[0] // 2, picture.shape[1] // 2].astype(int)
        assert inside.argmax() == track_id  # the red box, the green crate


class Steady(KnowingTracker):
    """Detects the same box in a hundred frames, with periodically peaking scores."""

    def update(self, frame, time=None):
        number = len(self.frames)
        found = super().update(frame, time)[:1]
        self.frames[-1] = number
        found.scores[:] = 0.9 if number % 20 == 7 else 0.5
        return found


def test_a_long_track_keeps_a_few_high_scoring_crops_spread_over_time(tmp_path, out, monkeypatch):
    monkeypatch.setattr(track, "load_tracker", lambda *_: Steady())
    path = tmp_path / "long.mp4"
    with VideoWriter(path, 10) as writer:
        for _ in range(160):
            writer.write(draw_frame(2))
    track_video(path, out, save=["crops"])
    frames = sorted(int(path.stem[-6:]) for path in (out / "crops").iterdir())
    assert len(frames) == CROPS_PER_TRACK
    assert min(np.diff(frames)) >= 15
    assert all(frame % 20 == 7 for frame in frames)


def test_a_thin_box_as_wide_as_the_frame_has_a_crop(tmp_path, out, monkeypatch):
    class Thin(KnowingTracker):
        def update(self, frame, time=None):
            found = super().update(frame, time)[:1]
            found.boxes[:] = torch.tensor([0.0, 4.0, 1600.0, 12.0])
            return found

    monkeypatch.setattr(track, "load_tracker", lambda *_: Thin())
    path = tmp_path / "wide.mp4"
    with VideoWriter(path, 10) as writer:
        writer.write(np.pad(draw_frame(2), ((0, 0), (0, 1600), (0, 0))))
    track_video(path, out, save=["crops"])
    [crop] = (out / "crops").iterdir()
    assert cv2.imread(str(crop)).shape[1] > 1500


def test_crops_of_an_earlier_run_are_removed(video, out):
    track_video(video, out, save=["crops"])
    (out / "crops" / "track0099_frame000000.jpg").touch()
    track_video(video, out, save=["crops"])
    assert not (out / "crops" / "track0099_frame000000.jpg").exists()


def test_the_matte_is_white_where_instances_are(video, out):
    track_video(video, out, save=["mattes"])
    reader = VideoReader(out / "clip_matte.mp4")
    assert (len(reader), reader.fps) == (FRAMES, 10)
    for index, picture in enumerate(reader):
        expected = np.zeros((HEIGHT, WIDTH), dtype=bool)
        for x0, y0, x1, y1 in rectangles(index)[: 1 if index < 4 else 2]:
            expected[y0:y1, x0:x1] = True
        matte = picture[..., 1] > 127
        assert (matte & expected).sum() / (matte | expected).sum() > 0.97


def test_only_the_parts_named_by_the_style_are_drawn(video, out):
    track_video(video, out, style=DrawingStyle.of([]))
    for before, after in zip(VideoReader(video), VideoReader(out / "clip.mp4"), strict=True):
        assert np.abs(before.astype(int) - after).mean() < 4


def test_cut_out_instances_remain_alone_in_every_picture(video, out):
    chosen = Redaction(cut_out=("crate",))
    track_video(video, out, save=["video", "crops"], style=DrawingStyle.of([]), redaction=chosen)
    shown = list(VideoReader(out / "clip.mp4"))
    assert shown[0].max() < 40  # the crate comes in frame 4
    x0, y0, x1, y1 = rectangles(8)[1]
    assert shown[8][y0 + 3 : y1 - 3, x0 + 3 : x1 - 3, 1].min() > 150
    assert shown[8][2:20].max() < 60
    red = [cv2.imread(str(path)) for path in (out / "crops").glob("track0000*")]
    assert red and all(picture.max() < 60 for picture in red)


def test_an_unknown_class_to_blur_is_refused_and_an_unseen_id_reported(video, out):
    with pytest.raises(InputError, match=r"'crates'.*'crate'"):
        track_video(video, out, redaction=Redaction(blur=("crates",)))
    with pytest.warns(InputWarning, match="clip: no track 40 "):
        track_video(video, out, redaction=Redaction(blur=(0, 40)))


def test_instances_are_blurred_before_they_have_a_track_and_whatever_classes_are_tracked(tmp_path):
    def boxes_of(frame):
        red = (frame[..., 0] > 150) & (frame[..., 1] < 110)
        return sv.Detections(
            xyxy=sv.mask_to_xyxy(red[None]).astype(float),
            confidence=np.array([0.9]),
            class_id=np.array([0]),
            data={"class_name": np.array(["box"])},
        )

    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10) as writer:
        for index in range(4):
            picture = draw_frame(index)
            x0, y0, x1, y1 = rectangles(index)[0]
            picture[y0:y1, x0:x1:2] //= 2  # stripes, which blurring removes
            writer.write(picture)
    options = {
        "save": ["video"],
        "style": DrawingStyle.of([]),
        "overrides": ["tracking.min_hits=3"],
    }
    hidden = Redaction(blur=("box",))
    track_video(path, tmp_path / "a", boxes_of, redaction=hidden, **options)
    track_video(path, tmp_path / "b", boxes_of, redaction=hidden, classes=[1], **options)
    for folder in ("a", "b"):
        for index, picture in enumerate(VideoReader(tmp_path / folder / "clip.mp4")):
            x0, y0, x1, y1 = rectangles(index)[0]
            assert picture[y0 + 4 : y1 - 4, x0 + 4 : x1 - 4, 0].std() < 12
