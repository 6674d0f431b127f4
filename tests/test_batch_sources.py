"""Which videos are found, and how they are identified."""

import os

import pytest

from queryinst_vis.batch.compaction import compact
from queryinst_vis.batch.store import Store, file_system_of
from queryinst_vis.batch.tables import done_keys, failed_keys
from queryinst_vis.errors import InputError
from tests.batch_support import find, track_all, use_tiny_model, write_clip

parquet = pytest.importorskip("pyarrow.parquet", reason="the tables are Parquet: extra 'batch'")


def names(*sources):
    return [video.name for video in find(sources)]


@pytest.fixture
def archive(tmp_path):
    folder = tmp_path / "archive"
    write_clip(folder / "day1" / "a.mp4", 2)
    return folder


def test_pictures_above_or_beside_videos_hide_none_of_them(archive):
    (archive / "cover.jpg").write_bytes(b"")
    (archive / "day1" / "thumbnail.jpg").write_bytes(b"")
    assert names(archive) == ["a"]


def test_folders_of_images_are_found_at_every_level(tmp_path):
    for folder in ("day1", "day1/late"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "0.png").write_bytes(b"")
    assert sorted(names(tmp_path)) == ["day1", "late"]


def test_hidden_files_are_no_images(archive):
    (archive / "day2").mkdir()
    (archive / "day2" / "._0.png").write_bytes(b"")  # as macOS leaves them on other file systems
    assert names(archive) == ["a"]


def test_a_folder_is_searched_once_despite_links(archive):
    (archive / "loop").symlink_to(archive)
    (archive / "day1" / "again").symlink_to(archive / "day1")
    assert names(archive) == ["a"]


def test_a_video_is_the_same_however_its_path_is_written(archive):
    [video] = find([archive / "day1" / ".." / "day1" / "a.mp4"])
    assert video.origin == find([archive / "day1" / "a.mp4"])[0].origin


def test_links_are_videos_of_their_own_in_a_folder_given_with_dots(archive):
    (archive / "latest.mp4").symlink_to(archive / "day1" / "a.mp4")
    assert sorted(names(archive / "day1" / "..")) == sorted(names(archive)) == ["a", "latest"]


@pytest.mark.parametrize("row", ["list.csv", "../{}/list.csv"])
def test_a_manifest_that_lists_itself_is_refused(tmp_path, row):
    (tmp_path / "list.csv").write_text(f"path\n{row.format(tmp_path.name)}\n")
    with pytest.raises(InputError, match=r"list\.csv.*refers to itself"):
        find([tmp_path / "list.csv"])


@pytest.mark.parametrize("row", ["my clip.mp4", "day 1/a.mp4", "{}/day 1/a.mp4"])
def test_paths_of_a_remote_manifest_are_relative_to_it(tmp_path, monkeypatch, row):
    (tmp_path / "day 1").mkdir()
    for path in ("my clip.mp4", "day 1/a.mp4"):
        (tmp_path / path).write_bytes(b"content")
    (tmp_path / "list.csv").write_text(f"path\n{row.format(tmp_path)}\n")
    monkeypatch.chdir(tmp_path / "day 1")
    [video] = find([f"{tmp_path.as_uri()}/list.csv"])
    assert video.name == row.split("/")[-1].removesuffix(".mp4")
    assert video.size == 7


@pytest.mark.parametrize("name", ["my clip.mp4", "é.mp4", "50%25.mp4", "a#b.mp4", "a+b(1).mp4"])
def test_objects_of_any_name_are_found_and_can_be_opened(tmp_path, name):
    (tmp_path / name).write_bytes(b"content")
    [video] = find([tmp_path.as_uri()])
    assert video.name == name.removesuffix(".mp4")
    system, path = file_system_of(video.address)
    with system.open_input_stream(path) as file:
        assert file.read() == b"content"


@pytest.mark.parametrize(
    "queries", [("1001", "1002"), ("sku=1", "sku=2"), ("st=5", "st=6"), ("policy=a", "policy=b")]
)
def test_parameters_that_identify_a_video_are_kept(queries):
    origins = {find([f"http://127.0.0.1:9/get?{query}"])[0].origin for query in queries}
    assert len(origins) == 2


@pytest.mark.parametrize(
    "signature",
    [
        "sv=2024&sr=b&st={0}&se={0}&sp=r&spr=https&sig={0}",
        "sv=2024&skoid={0}&sktid={0}&skt={0}&ske={0}&sks=b&skv=1&sig={0}",
        "Expires={0}&Key-Pair-Id=K&Policy={0}&Signature={0}",
        "X-Goog-Signature={0}&X-Goog-Expires={0}",
        "token={0}&expires={0}",
    ],
)
def test_a_new_signature_does_not_make_a_new_video(signature):
    urls = [f"http://127.0.0.1:9/v.mp4?id=3&{signature.format(number)}" for number in (1, 2)]
    plain = find(["http://127.0.0.1:9/v.mp4?id=3"])[0].origin
    assert {find([url])[0].origin for url in urls} == {plain}


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes on POSIX only")
def test_a_file_name_that_is_not_utf8_is_tracked_or_fails_like_any_other(tmp_path, monkeypatch):
    use_tiny_model(monkeypatch)
    folder = tmp_path / "clips"
    clip = write_clip(folder / "good.mp4", 2)
    os.link(clip, os.fsencode(folder) + b"/caf\xe9.mp4")
    (folder / os.fsdecode(b"br\xf6ken.mp4")).write_bytes(b"no video")
    _, summary = track_all([folder], tmp_path / "out", attempts=1)
    assert (summary.done, len(summary.failures)) == (2, 1)
    paths = parquet.read_table(tmp_path / "out" / "videos").column("path").to_pylist()
    assert any(path.endswith("caf\\udce9.mp4") for path in paths)


def test_a_run_tracks_a_video_again_whose_result_file_is_empty(archive, tmp_path, monkeypatch):
    use_tiny_model(monkeypatch)
    track_all([archive], tmp_path / "out")
    [path] = (tmp_path / "out" / "videos").iterdir()
    path.write_bytes(b"")
    plan, summary = track_all([archive], tmp_path / "out")
    assert len(plan.todo) == summary.done == 1 and path.stat().st_size
    path.with_name("0123.parquet").write_bytes(b"")
    assert compact(Store(tmp_path / "out"), even_one_file=True) == 3


def test_an_empty_result_file_left_by_a_power_failure_is_not_a_finished_video(tmp_path):
    store = Store(tmp_path)
    store.put_bytes(b"", "videos/0123.parquet")
    store.put_bytes(b"", "failures/0123.parquet")
    assert done_keys(store) == failed_keys(store) == set()
    with pytest.raises(InputError, match=r"videos/0123\.parquet: is damaged"):
        store.open_parquet("videos/0123.parquet")
