"""Many videos become one data set: each exactly once, and reproducible byte for byte."""

import json
import os
from collections import Counter

import pytest

from queryinst_vis import cli
from queryinst_vis.batch.compaction import PLAN, compact, finish_compaction
from queryinst_vis.batch.options import RunOptions, Video, VideoOptions
from queryinst_vis.batch.run import plan_run
from queryinst_vis.batch.status import format_status, read_status
from queryinst_vis.batch.store import Store
from queryinst_vis.batch.tables import (
    DETECTION_TABLE,
    TIMES,
    TRACK_TABLE,
    VIDEO_COLUMNS,
    key_of,
)
from queryinst_vis.errors import InputError
from tests.batch_support import find, track_all, use_tiny_model, write_clip

pyarrow = pytest.importorskip("pyarrow", reason="the tables are Parquet: extra 'batch'")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    write_clip(folder / "a" / "clip.mp4", 5)
    write_clip(folder / "b" / "clip.mp4", 3, first=2)
    write_clip(folder / "c.mp4", 6, first=4)
    return folder


@pytest.fixture
def tiny(monkeypatch):
    use_tiny_model(monkeypatch)


def content(out):
    """Bytes of the tables by file, and the rows of ``videos`` without their times."""
    files = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for table in ("tracks", "detections")
        for path in (out / table).glob("*.parquet")
    }
    rows = [
        {name: value for name, value in row.items() if name not in TIMES}
        for path in sorted((out / "videos").glob("*.parquet"))
        for row in parquet.read_table(path).to_pylist()
    ]
    return files, rows


# Finding videos


def test_folders_are_searched_recursively_and_names_are_unique(clips):
    videos = find([clips])
    assert [video.name for video in videos] == ["c", "a_clip", "b_clip"]
    assert videos[1].origin == str(clips / "a" / "clip.mp4")


def test_a_folder_of_images_is_one_video_and_a_glob_matches_several(clips, tmp_path):
    for index in range(2):
        (tmp_path / "frames").mkdir(exist_ok=True)
        (tmp_path / "frames" / f"{index}.png").write_bytes(b"")
    assert [video.name for video in find([tmp_path / "frames"])] == ["frames"]
    assert len(find([f"{clips}/*/*.mp4"])) == 2


def test_duplicate_and_missing_videos_are_rejected(clips):
    with pytest.raises(InputError, match=r"c\.mp4: .*2 times"):
        find([clips, clips / "c.mp4"])
    with pytest.raises(InputError, match="no such file"):
        find([clips / "d.mp4"])
    with pytest.raises(InputError, match="matches no video"):
        find([f"{clips}/*.avi"])


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_manifest_gives_options_for_each_video(clips, tmp_path, suffix):
    rows = [{"path": "clips/c.mp4", "conf": 0.5}, {"path": "clips/a/clip.mp4", "conf": None}]
    manifest = tmp_path / f"videos.{suffix}"
    if suffix == "csv":
        manifest.write_text("path,conf\nclips/c.mp4,0.5\nclips/a/clip.mp4,\n")
    elif suffix == "jsonl":
        manifest.write_text("\n".join(map(json.dumps, rows)))
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), manifest)

    def parse(given, where):
        assert given == {"conf": "0.5"} and "row 1" in where
        return VideoOptions(conf=0.5)

    videos = find([manifest], VideoOptions(iou=0.7), parse)
    assert [video.options.conf for video in videos] == [0.5, None]
    assert videos[1].options.iou == 0.7


def test_invalid_options_in_a_manifest_are_rejected_with_their_row(clips, tmp_path, capsys):
    manifest = tmp_path / "videos.csv"
    out = ["--out", str(tmp_path / "out"), "--dry-run"]
    manifest.write_text("path,colour\nclips/c.mp4,red\n")
    assert cli.main(["batch", str(manifest), *out]) == 2
    error = capsys.readouterr().err
    assert "videos.csv, row 1" in error and "--colour" in error
    manifest.write_text("path,strict\nclips/c.mp4,maybe\n")
    assert cli.main(["batch", str(manifest), *out]) == 2
    assert "`strict` must be true or false" in capsys.readouterr().err


def test_origins_contain_no_secrets_and_do_not_change_with_the_signature():
    signed = "http://u:pw@127.0.0.1:9/v.mp4?id=3&X-Amz-Signature={}&X-Amz-Expires=60"
    origins = {find([signed.format(number)])[0].origin for number in (1, 2)}
    assert len(origins) == 1
    assert "pw" not in str(origins) and "Amz" not in str(origins)
    assert origins != {find([signed.replace("id=3", "id=4")])[0].origin}


# Keys


def test_a_key_changes_with_everything_that_affects_the_results_and_nothing_else():
    video = Video("clip", "/a/clip.mp4", "/a/clip.mp4", "1 2 3", 2, VideoOptions("people"))
    run = RunOptions("out")

    def key(options=None, version="1 2 3", name="clip", **settings):
        changed = Video(
            name, "/a/clip.mp4", "/a/clip.mp4", version, 2, options or VideoOptions("people")
        )
        return key_of(changed, RunOptions("out", **settings))

    assert key() == key_of(video, run) == key(name="other", streams=3, attempts=5, device="cpu")
    others = [
        key(version="1 2 4"),
        key(batch=8),
        key(threads=2),
        key(VideoOptions("shapes")),
        key(VideoOptions("people", conf=0.1)),
        key(VideoOptions("people", overrides=("tracking.rule=ocsort",))),
        key(VideoOptions("people", save=("json",))),
    ]
    assert len({key(), *others}) == 1 + len(others)
    assert len({each.partition("-")[0] for each in [key(), *others]}) == 1


# The data set


def test_tables_are_byte_identical_for_any_number_of_streams_and_any_order(tmp_path, clips, tiny):
    _, summary = track_all([clips], tmp_path / "one")
    assert (summary.done, summary.frames, summary.failures) == (3, 14, [])
    track_all([clips], tmp_path / "three", streams=3, order=[2, 0, 1])
    files, rows = content(tmp_path / "one")
    assert (files, rows) == content(tmp_path / "three")
    assert len(files) == 6 and [row["frames"] for row in rows].count(5) == 1


def test_tables_have_the_declared_columns_and_join_on_the_key(tmp_path, clips, tiny):
    track_all([clips], tmp_path / "out")
    tables = {
        table: parquet.read_table(tmp_path / "out" / table)
        for table in ("videos", "tracks", "detections")
    }
    for table, columns in zip(tables, (VIDEO_COLUMNS, TRACK_TABLE, DETECTION_TABLE), strict=True):
        assert tables[table].column_names == list(columns)
    keys = set(tables["videos"]["key"].to_pylist())
    assert keys == set(tables["detections"]["key"].to_pylist())
    row = next(row for row in tables["videos"].to_pylist() if row["name"] == "c")
    assert (row["width"], row["height"], row["fps"], row["schema_version"]) == (96, 64, 10, 1)
    assert row["duration"] == pytest.approx(0.5) and len(row["sha256"]) == 64
    assert json.loads(row["warnings"]) == []


def test_duckdb_and_polars_read_the_tables(tmp_path, clips, tiny):
    duckdb = pytest.importorskip("duckdb", reason="DuckDB is not installed")
    polars = pytest.importorskip("polars", reason="Polars is not installed")
    track_all([clips], out := tmp_path / "out")
    longest = duckdb.sql(f"""
        SELECT v.name, t.track_id, t.last_seconds - t.first_seconds AS seconds
        FROM '{out}/tracks/*.parquet' t JOIN '{out}/videos/*.parquet' v USING (key)
        ORDER BY seconds DESC, v.name LIMIT 1
    """).fetchall()
    assert longest[0][0] == "c" and longest[0][2] == pytest.approx(0.5)
    per_class = (
        polars.read_parquet(f"{out}/detections/*.parquet")
        .join(polars.read_parquet(f"{out}/videos/*.parquet"), on="key")
        .group_by("class_name", polars.col("seconds").floordiv(3600).alias("hour"))
        .agg((1 / polars.col("fps")).sum().alias("seconds"))
    )
    count = sum(row["frames"] for row in parquet.read_table(out / "tracks").to_pylist())
    assert per_class["seconds"].sum() == pytest.approx(count / 10)


def test_a_second_run_tracks_only_the_missing_videos(tmp_path, clips, tiny):
    track_all([clips], tmp_path / "out")
    before = content(tmp_path / "out")
    write_clip(clips / "d.mp4", 4)
    plan, summary = track_all([clips], tmp_path / "out")
    assert (len(plan.todo), plan.done, summary.done) == (1, 3, 1)
    assert str(plan) == "4 videos: 1 to track, 3 done before"
    assert before[0].items() <= content(tmp_path / "out")[0].items()


def test_results_of_a_changed_video_are_replaced(tmp_path, clips, tiny):
    track_all([clips], tmp_path / "out")
    write_clip(clips / "c.mp4", 2)
    _, summary = track_all([clips], tmp_path / "out")
    assert summary.done == 1
    rows = content(tmp_path / "out")[1]
    assert Counter(row["frames"] for row in rows) == {5: 1, 3: 1, 2: 1}
    assert len(content(tmp_path / "out")[0]) == 6


def test_results_of_other_options_are_replaced_only_with_overwrite(tmp_path, clips, tiny):
    track_all([clips], tmp_path / "out")
    run = RunOptions(str(tmp_path / "out"), batch=2)
    videos = find([clips], VideoOptions(conf=0.9))
    with pytest.raises(InputError, match="--overwrite"):
        plan_run(videos, run)
    assert len(plan_run(videos, run, overwrite=True).todo) == 3


def test_a_failure_is_a_row_and_does_not_affect_other_videos(tmp_path, clips, tiny):
    (clips / "broken.mp4").write_bytes(b"no video")
    _, summary = track_all([clips], tmp_path / "out", streams=2, attempts=2)
    assert summary.done == 3 and [each.video.name for each in summary.failures] == ["broken"]
    assert "broken (input): " in str(summary)
    [row] = parquet.read_table(tmp_path / "out" / "failures").to_pylist()
    assert (row["name"], row["kind"], row["attempts"]) == ("broken", "input", 2)
    assert str(clips / "broken.mp4") in row["reason"]

    plan, _ = track_all([clips], tmp_path / "out")
    assert (len(plan.todo), plan.done, plan.failed) == (0, 3, 1)
    write_clip(clips / "fixed.mp4", 2)
    os.replace(clips / "fixed.mp4", clips / "broken.mp4")
    _, summary = track_all([clips], tmp_path / "out")
    assert summary.done == 1  # a new version of the file has not failed before


def test_failed_videos_are_retried_on_request(tmp_path, clips, tiny):
    (clips / "broken.mp4").write_bytes(b"no video")
    track_all([clips], tmp_path / "out")
    plan, summary = track_all([clips], tmp_path / "out", retry_failed=True)
    assert len(plan.todo) == 1 and len(summary.failures) == 1


def test_warnings_of_a_video_are_in_its_row(tmp_path, tiny):
    whole = write_clip(tmp_path / "whole.mkv", 30).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    options = VideoOptions(allow_partial=True)
    _, summary = track_all([tmp_path / "cut.mkv"], tmp_path / "out", options=options)
    assert summary.done == 1
    [row] = content(tmp_path / "out")[1]
    assert "truncated" in row["warnings"]


def test_outputs_of_track_are_saved_in_addition_to_the_tables(tmp_path, clips, tiny):
    options = VideoOptions(save=("jsonl", "csv"))
    track_all([clips / "c.mp4"], tmp_path / "out", options=options)
    [folder] = (tmp_path / "out" / "files").iterdir()
    names = {path.name for path in folder.iterdir()}
    assert names == {"tracks.jsonl", "tracks.csv", "detections.csv", "run.json"}
    [row] = content(tmp_path / "out")[1]
    assert row["key"] == folder.name


def test_the_status_is_read_from_the_data_set(tmp_path, clips, tiny):
    track_all([clips], tmp_path / "out")
    text = format_status(read_status(str(tmp_path / "out")), 0)
    assert text.startswith("3 videos: 3 done, 0 failed, 0 left (finished)")
    with pytest.raises(InputError, match=r"status\.json"):
        read_status(str(tmp_path))


# Compaction


def all_rows(out):
    return {
        table: sorted(map(str, parquet.read_table(out / table).to_pylist()))
        for table in ("videos", "tracks", "detections")
    }


def test_compaction_keeps_every_row_and_the_next_run_skips_these_videos(tmp_path, clips, tiny):
    track_all([clips], out := tmp_path / "out")
    before = all_rows(out)
    assert compact(Store(out)) == 9
    assert all_rows(out) == before
    assert [len(list((out / table).iterdir())) for table in ("videos", "tracks")] == [1, 1]
    assert not [path for path in (out / "compaction").iterdir()]
    write_clip(clips / "d.mp4", 4)
    plan, _ = track_all([clips], out)
    assert (len(plan.todo), plan.done) == (1, 3)
    assert compact(Store(out)) == 6
    assert len(all_rows(out)["videos"]) == 4


class KilledError(BaseException):
    pass


class FragileStore(Store):
    """Fails as if killed before its n-th write or deletion."""

    def __init__(self, out, changes):
        super().__init__(out)
        self._left = changes

    def _count(self):
        self._left -= 1
        if self._left < 0:
            raise KilledError

    def put(self, file, name):
        self._count()
        super().put(file, name)

    def put_bytes(self, data, name):
        self._count()
        super().put_bytes(data, name)

    def delete(self, name):
        self._count()
        super().delete(name)


def test_compaction_can_be_killed_before_any_write_or_deletion(tmp_path, clips, tiny):
    track_all([clips], out := tmp_path / "out")
    before = all_rows(out)
    for changes in range(40):
        try:
            compact(FragileStore(out, changes))
        except KilledError:
            seen = {table: rows for table, rows in all_rows(out).items()}
            assert all(Counter(rows) <= Counter(before[table]) for table, rows in seen.items())
            finish_compaction(Store(out))
            assert all_rows(out) == before
            assert not (out / PLAN).exists()
        else:
            break
    assert len(list((out / "videos").iterdir())) == 1
