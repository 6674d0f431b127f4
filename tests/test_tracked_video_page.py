"""``track --save report``: one HTML file that plays a tracked video of any length."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from queryinst_vis import cli, track_video
from queryinst_vis.masks import decode_rle, encode_rle, resize_rle
from queryinst_vis.report import tracked_video
from queryinst_vis.report.excerpts import EXCERPT, Excerpts, Instance
from queryinst_vis.video import VideoWriter
from tests.browser import open_page
from tests.tiny import HEIGHT, WIDTH, draw_frame, rectangles
from tests.tracking_support import FRAMES, KnowingTracker

ATTACK = "</script><img src=x onerror=alert(1)>"
NAME = "<img src=x onerror=alert(1)> & 'clip'"


class Hostile(KnowingTracker):
    class_names = ["box", ATTACK]  # noqa: RUF012  # as of files


@pytest.fixture
def page(tmp_path, loaded, monkeypatch):
    """The page of a video with malicious file and class names."""
    monkeypatch.setattr("queryinst_vis.inference.track.VideoTracker", Hostile)
    path = tmp_path / "in" / f"{NAME}.mp4"
    with VideoWriter(path, 10, crf=5) as writer:
        for index in range(FRAMES):
            writer.write(draw_frame(index))
    track_video(path, tmp_path / "out", save=["report"])
    return tmp_path / "out" / f"{NAME}.html"


def data_of(path):
    return json.loads(re.search(r'id="page-data">(.*?)</script>', path.read_text())[1])


def pixel(page, x, y):
    """The colour that the player shows at a pixel of the video."""
    return page.evaluate(
        """([x, y, width, height]) => {
            const canvas = document.querySelector(".player-canvas");
            const [sx, sy] = [canvas.width / width, canvas.height / height];
            const copy = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
            copy.drawImage(canvas, -Math.floor(x * sx), -Math.floor(y * sy));
            return [...copy.getImageData(0, 0, 1, 1).data];
        }""",
        [x, y, WIDTH, HEIGHT],
    )[:3]


def wait_for_frame(page, number):
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(page.get_by_label("frame number")).to_have_value(str(number))


def test_the_page_plays_seeks_and_steps_without_network_requests(page):
    with open_page(page, viewport={"width": 900, "height": 800}) as shown:
        assert shown.title() == f"Tracks of {NAME}"
        assert shown.locator("td", has_text=ATTACK).count() == 1
        assert shown.evaluate("document.querySelectorAll('img[onerror]').length") == 0
        wait_for_frame(shown, 0)
        shown.uncheck("text=masks")
        shown.uncheck("text=labels")
        x0, y0, x1, y1 = rectangles(0)[0]
        red, green, _ = pixel(shown, (x0 + x1) / 2, (y0 + y1) / 2)
        assert red > 180 and green < 80
        shown.click("tr[data-track='1'] td >> nth=1")  # the crate comes with frame 4
        wait_for_frame(shown, 4)
        assert shown.locator("tr.selected").get_attribute("data-track") == "1"
        x0, y0, x1, y1 = rectangles(4)[0]  # the picture is that of frame 4, to the pixel
        assert pixel(shown, x0 + 2, y0 + 8)[1] < 80 < pixel(shown, x0 - 2, y0 + 8)[1]
        for key, frame in (("ArrowRight", 5), ("End", 11), ("ArrowLeft", 10), ("Home", 0)):
            shown.keyboard.press(key)
            wait_for_frame(shown, frame)
        at = 150 + (8.5 / FRAMES) * (850 - 160)
        box = shown.locator(".timeline-canvas").bounding_box()
        shown.mouse.click(box["x"] + at, box["y"] + 50)  # the second row, frame 8
        wait_for_frame(shown, 8)
        shown.keyboard.press("Home")
        shown.keyboard.press("]")
        wait_for_frame(shown, 4)
        shown.keyboard.press(" ")
        wait_for_frame(shown, 11)
        _check_masks(shown)


def _check_masks(shown):
    """The page's script decodes RLE as pycocotools encodes it."""
    rng = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 0.97, 1.0):
        mask = rng.random((17, 23)) < share
        region = shown.evaluate(
            "([counts, height]) => { const found = regionOf(counts, height);"
            " return found && {...found, pixels: [...found.pixels]}; }",
            [encode_rle(mask)["counts"], 17],
        )
        decoded = np.zeros_like(mask)
        if region is not None:
            rows = slice(region["y"], region["y"] + region["height"])
            columns = slice(region["x"], region["x"] + region["width"])
            decoded[rows, columns] = np.reshape(
                region["pixels"], (region["height"], region["width"])
            )
        np.testing.assert_array_equal(decoded, mask)


def test_a_notebook_shows_the_player_inline(tmp_path, loaded, out):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10, crf=5) as writer:
        for index in range(3):
            writer.write(draw_frame(index))
    assert track_video(path, out, save=["jsonl"])._repr_html_() is None
    cell = track_video(path, out, save=["report"], overwrite=True)._repr_html_()
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><link rel='icon' href='data:,'>{cell}")
    with open_page(notebook) as shown:
        player = shown.frame_locator("iframe")
        player.get_by_label("next frame").click()
        wait_for_frame(player, 1)


def test_the_page_names_tracks_and_settings(page):
    text = page.read_text()
    assert "2</b>" in text and "frames per second" in text and "SHA-256" in text
    data = data_of(page)
    assert [track["spans"] for track in data["tracks"]] == [[[0, 11]], [[4, 11]]]
    assert data["excerpts"] == [[0, FRAMES]]
    assert "left out" not in text.split("<main>")[1].split("<h2>")[0]


def test_masks_and_boxes_in_the_page_are_those_that_were_found(page):
    data = data_of(page)
    number, seconds, _, instances, is_damaged = data["frames"][6]
    assert (number, seconds, is_damaged) == (6, 0.6, 0)
    track, score, box, counts = instances[1]
    assert (track, score) == (1, 0.6)
    assert box == pytest.approx(rectangles(6)[1], abs=0.1)
    mask = decode_rle({"size": data["maskSize"], "counts": counts})
    x0, y0, x1, y1 = rectangles(6)[1]
    assert mask[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].all()
    assert mask.sum() == pytest.approx((x1 - x0) * (y1 - y0), rel=0.1)


def test_the_command_line_writes_the_page(tmp_path, loaded, out, capsys):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, 10) as writer:
        writer.write(draw_frame(0))
    assert cli.main(["track", str(path), "--out", str(out), "--save", "report"]) == 0
    assert {file.name for file in out.iterdir()} == {"clip.html", "run.json"}
    assert "clip.html (HTML page with a player)" in capsys.readouterr().out


NOISE = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)


def excerpts_of(frames, budget, sides=(160, 80, 40)):
    excerpts = Excerpts(budget, sides)
    mask = encode_rle(NOISE[..., 0] > 250)
    for _ in range(frames):
        excerpts.add(NOISE, [Instance(3, 0.5, [1.0, 2.0, 30.0, 40.0], mask)])
    return excerpts


def test_a_short_video_is_embedded_whole_at_full_size():
    excerpts = excerpts_of(20, 10_000_000)
    assert (excerpts.size, excerpts.ranges()) == ((90, 160), [(0, 20)])


def test_a_longer_video_is_downscaled_and_then_cut_to_evenly_spread_excerpts():
    smaller = excerpts_of(2 * EXCERPT, 1_000_000)
    assert smaller.size < (90, 160) and smaller.ranges() == [(0, 2 * EXCERPT)]
    longest = excerpts_of(20 * EXCERPT, 600_000)
    assert longest.size == (22, 40)
    starts = np.array([first for first, _ in longest.ranges()])
    assert starts[0] == 0 and len(starts) > 2 and len(set(np.diff(starts))) == 1
    assert longest.ranges()[-1][1] > 15 * EXCERPT


@pytest.mark.parametrize("frames", [10, 3 * EXCERPT, 20 * EXCERPT + 7])
@pytest.mark.parametrize("budget", [20_000, 300_000])
def test_pages_of_any_video_length_stay_within_the_budget(frames, budget):
    excerpts = excerpts_of(frames, budget)
    assert excerpts.packed()
    assert len(json.dumps(excerpts.packed(), separators=(",", ":"))) <= budget


def test_a_resized_mask_has_the_pixels_of_the_resized_frame():
    rng = np.random.default_rng(1)
    for _ in range(20):
        mask = np.zeros((60, 81), dtype=bool)
        x0, y0, x1, y1 = (*rng.integers(0, 40, 2), *rng.integers(41, 60, 2))
        mask[y0:y1, x0:x1] = rng.random((y1 - y0, x1 - x0)) < 0.6
        height, width = rng.integers(5, 130, 2).tolist()
        rows = ((np.arange(height) + 0.5) * 60 / height).astype(int)
        columns = ((np.arange(width) + 0.5) * 81 / width).astype(int)
        resized = decode_rle(resize_rle(encode_rle(mask), height, width))
        np.testing.assert_array_equal(resized, mask[np.ix_(rows, columns)])


def test_a_mask_that_vanishes_on_downscaling_is_empty():
    mask = np.zeros((60, 80), dtype=bool)
    mask[0, 0] = True
    assert not decode_rle(resize_rle(encode_rle(mask), 6, 8)).any()


class Crowd(KnowingTracker):
    """A new track in every frame."""

    def update(self, frame, time=None):
        found = super().update(frame, time)[:1]
        found.track_ids[:] = len(self.frames)
        return found


def test_the_page_of_many_tracks_names_those_it_omits(tmp_path, loaded, out, monkeypatch):
    monkeypatch.setattr("queryinst_vis.inference.track.VideoTracker", Crowd)
    path = tmp_path / "many.mp4"
    monkeypatch.setattr(tracked_video, "MOST_TRACKS", 7)
    with VideoWriter(path, 10) as writer:
        for _ in range(FRAMES):
            writer.write(draw_frame(2))
    track_video(path, out, save=["report"])
    html = (out / "many.html").read_text()
    assert f"Of {FRAMES} tracks, the 7 longest" in html
    assert len(data_of(out / "many.html")["tracks"]) == 7
