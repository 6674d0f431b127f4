"""Correcting tracks in a real browser; killing the server between actions loses none."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra 'review' is not installed")

from queryinst_vis.review import Check, ReviewSession, Undo
from queryinst_vis.video import VideoWriter
from tests.browser import EXECUTABLE
from tests.review_support import FPS, HEIGHT, WIDTH, write_results
from tests.reviewer import ATTACK, FRAMES, TRACKS, Reviewer


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if EXECUTABLE is None:
        pytest.skip("no Chromium on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=EXECUTABLE, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def reviewer(browser, tmp_path):
    write_results(tmp_path, TRACKS, FRAMES, name=ATTACK)
    with VideoWriter(tmp_path / "clip.mp4", FPS, crf=1) as writer:
        for index in range(FRAMES):
            writer.write(np.full((HEIGHT, WIDTH, 3), 20 * index, np.uint8))
    reviewer = Reviewer(browser, tmp_path, tmp_path / "clip.mp4")
    yield reviewer
    reviewer.server.kill()
    reviewer.page.context.close()
    assert reviewer.errors == []


def grey_level(page):
    """The grey level of the shown frame, in a corner without a track."""
    return page.evaluate(
        """() => {
            const canvas = document.querySelector(".player-canvas");
            const copy = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
            copy.drawImage(canvas, 2 - canvas.width, 2 - canvas.height);
            return copy.getImageData(0, 0, 1, 1).data[0];
        }"""
    )


def test_every_action_survives_a_killed_server(reviewer):
    page = reviewer.page
    assert page.inner_text("#title") == ATTACK
    for frame in (4, 0, 8):
        reviewer.at(frame)
        assert grey_level(page) == pytest.approx(20 * frame, abs=6)

    reviewer.select(2, 1)
    page.keyboard.press("n")
    page.keyboard.type(ATTACK)
    page.keyboard.press("Enter")
    reviewer.wait_for("saved: name")
    reviewer.survive()
    assert reviewer.tracks()[1][0] == f"#1 person {ATTACK}"
    reviewer.wait_for_frame(2)  # the page returns to the same frame

    reviewer.select(2, 1)
    page.select_option('[data-field="class"]', label="new class ...")
    reviewer.wait_for("saved: class")
    reviewer.survive()
    assert reviewer.tracks()[1][0] == f"#1 {ATTACK} {ATTACK}"

    reviewer.select(4, 1)
    reviewer.press("s", "saved: split")
    reviewer.survive()
    assert reviewer.tracks()[1][1] == [(0, 3)] and reviewer.tracks()[5][1] == [(4, 8)]

    reviewer.select(3, 4)
    page.evaluate("review.player.select([4, 3])")
    reviewer.press("m", "saved: merge")
    reviewer.survive()
    assert reviewer.tracks()[4][1] == [(0, 3), (5, 8)] and 3 not in reviewer.tracks()

    reviewer.select(3, 1, 2)
    reviewer.press("w", "saved: swap")
    reviewer.survive()
    assert reviewer.tracks()[1][1] == [(0, 8)] and reviewer.tracks()[2][1] == [(0, 3)]

    page.evaluate("review.player.select([1, 2])")
    reviewer.press("m", "choose which region to keep")
    assert page.locator("#conflict").is_visible()
    reviewer.survive()
    assert len(reviewer.tracks()) == 4  # no decision was made silently
    page.evaluate("review.player.select([1, 2])")
    reviewer.press("m", "choose which region to keep")
    page.select_option("#conflict select", "keep second")
    page.click("#conflict >> text=merge as chosen")
    reviewer.wait_for("saved: merge")
    reviewer.survive()
    assert sorted(reviewer.tracks()) == [1, 4, 5]

    page.evaluate("review.player.select([5])")
    reviewer.press("x", "saved: delete")
    reviewer.survive()
    assert sorted(reviewer.tracks()) == [1, 4]
    reviewer.press("u", "saved: undo")
    reviewer.survive()
    assert sorted(reviewer.tracks()) == [1, 4, 5]
    reviewer.press("U", "saved: redo")
    reviewer.survive()
    assert sorted(reviewer.tracks()) == [1, 4]

    for frame, left in ((2, 20), (6, 24)):
        reviewer.at(frame)
        if frame == 2:
            page.keyboard.press("Escape")
        page.keyboard.press("d")
        for x, y in ((left, 2), (left + 6, 2), (left + 6, 8), (left, 8)):
            reviewer.click(x, y)
        reviewer.press("Enter", "saved: draw")
        reviewer.at(0)
        page.evaluate("setStatus('')")
    reviewer.survive()
    assert reviewer.tracks()[6][1] == [(2, 6)]  # frames in between are interpolated
    origins = page.evaluate("review.media.frame(4).then((f) => f.instances.map((i) => i.note))")
    assert "interpolated" in origins

    reviewer.press("F", "saved: check")
    reviewer.survive()
    page.click("#export button")
    page.locator("#export p[role=status]", has_text="wrote").wait_for()
    (written,) = reviewer.folder.glob("tracks.jsonl.review/exports/youtube-vis-1")
    content = json.loads((written / "annotations.json").read_text())
    assert {entry["track_id"] for entry in content["annotations"]} == {1, 4, 6}
    assert page.evaluate("document.querySelectorAll('img[onerror]').length") == 0
    reviewer.server.kill()
    with ReviewSession.open(reviewer.folder) as session:
        assert [track.track_id for track in session.tracks()] == [1, 4, 6]
        assert session.track(6).drawn == (2, 6)


def test_playback_and_the_list_of_keys(reviewer):
    page = reviewer.page
    reviewer.at(0)
    page.keyboard.press(" ")
    reviewer.wait_for_frame(8)
    assert grey_level(page) == pytest.approx(160, abs=6)
    page.keyboard.press("?")
    keys = page.locator("dialog th").all_inner_texts()
    assert {"m", "s", "w", "x", "u", "U", "d", "e", "a", "r", "space"} <= set(keys)
    assert len(keys) == len(set(keys))


def test_playback_goes_on_from_a_frame_that_is_sought(reviewer):
    page = reviewer.page
    reviewer.at(8)
    page.evaluate(
        """async () => {
            const player = review.player;
            window.shown = [];
            player.addEventListener("frame", ({ detail }) => window.shown.push(detail));
            player.speed = 0.25;
            await player.seek(0);
            player.play();
            await new Promise((resolve) => setTimeout(resolve, 20)); // waits for frame 1
            await player.seek(5);
        }"""
    )
    reviewer.wait_for_frame(8)
    assert page.evaluate("window.shown") == [0, 5, 6, 7, 8]


def test_a_drawing_is_hidden_and_not_saved_in_other_frames(reviewer):
    page = reviewer.page
    reviewer.select(3, 2)
    page.keyboard.press("e")
    page.locator("text=Drawing #2 in frame 3").wait_for()
    page.keyboard.press("ArrowRight")
    reviewer.wait_for_frame(4)
    reviewer.press("Enter", "back at frame 3")
    reviewer.wait_for_frame(3)
    reviewer.press("Enter", "saved: draw")


def test_the_outline_of_a_region_is_edited(reviewer):
    page = reviewer.page
    reviewer.select(3, 2)
    page.keyboard.press("e")
    page.locator("text=Drawing #2").wait_for()
    (outline,) = page.evaluate("review.panel.editor.polygons()")
    x, y = TRACKS[2][3]
    assert np.abs(np.reshape(outline, (-1, 2)) - (x + 2, y + 2)).max() < 2.5
    box = page.locator(".player-canvas").bounding_box()
    scale = box["width"] / WIDTH
    page.mouse.move(box["x"] + (x + 4) * scale, box["y"] + (y + 4) * scale)  # its corner
    page.mouse.down()
    page.mouse.move(box["x"] + (x + 9) * scale, box["y"] + (y + 9) * scale, steps=3)
    page.mouse.up()
    reviewer.press("Enter", "saved: draw")
    with_corner = page.evaluate("review.media.frame(3).then((f) => f.instances)")
    corrected = next(each for each in with_corner if each["track"] == 2)
    assert corrected["box"][2] >= x + 8 and corrected["origin"] == "drawn"


def test_suggestions_are_accepted_and_dismissed_by_keys(reviewer):
    page = reviewer.page
    page.locator("#queue >> text=Suggestion 1 of").wait_for()
    first = page.evaluate("review.panel.queue.current")
    assert page.locator("#queue p").inner_text() == first["reason"]
    assert page.locator("#queue canvas").count() == 2
    reviewer.press("a", f"saved: {first['accept']['action']}")
    reviewer.survive()
    page.locator("#queue h2").wait_for()
    ids = page.evaluate("review.panel.queue.load().then(() => review.panel.queue.list)")
    assert first["id"] not in [each["id"] for each in ids]
    dismissed = ids[0]["id"]
    reviewer.press("r", "saved: dismiss")
    reviewer.server.kill()
    with ReviewSession.open(reviewer.folder) as session:
        assert session.state.dismissed == {dismissed}
        assert len(session.records) == 2


def test_a_dead_server_is_reported_and_nothing_is_lost(reviewer):
    reviewer.select(2, 1)
    reviewer.server.kill()
    reviewer.press("x", "restart it")
    reviewer.survive()
    assert sorted(reviewer.tracks()) == [1, 2, 3, 4]


SLOW = """
    const fetched = window.fetch;
    window.fetch = async (path, options) => {
        if (path.startsWith("picture")) await wait(60);
        return fetched(path, options);
    };
"""


def test_actions_reach_the_server_while_frames_are_skipped(reviewer):
    said = reviewer.page.evaluate(
        "async () => {"
        + SLOW
        + """
            const waits = [];
            for (let index = 1; index < 8; index++) {
                waits.push(review.player.seek(index));
                if (index === 3) waits.push(review.act({ action: "check" }));
                await wait(16);
            }
            const all = Promise.all(waits).then(() => review.act({ action: "undo" }));
            return Promise.race([all.then(() => "done"), wait(9000).then(() => "late")]);
        }"""
    )
    assert said == "done"
    reviewer.server.kill()
    with ReviewSession.open(reviewer.folder) as session:
        assert [type(record.action) for record in session.records] == [Check, Undo]


def test_playback_goes_on_after_seeks_that_follow_each_other_quickly(reviewer):
    reviewer.page.evaluate(
        "async () => {"
        + SLOW
        + """
            review.player.play();
            for (const index of [2, 4, 6, 5, 3]) {
                review.player.seek(index);
                await wait(16);
            }
        }"""
    )
    reviewer.wait_for_frame(8)


def test_a_drawing_keeps_its_choices_and_is_saved_once(reviewer):
    page = reviewer.page
    page.keyboard.press("d")
    page.get_by_label("between drawn frames").select_option("none")
    for x, y in ((20, 2), (26, 2), (26, 8)):
        reviewer.click(x, y)
    reviewer.press("f", "saved: check")
    assert page.get_by_label("between drawn frames").input_value() == "none"
    page.evaluate("() => { review.panel.saveDrawing(); review.panel.saveDrawing(); }")
    reviewer.wait_for("saved: draw")
    page.evaluate("review.act({ action: 'check' })")
    assert sorted(reviewer.tracks()) == [1, 2, 3, 4, 5]


def test_a_name_survives_other_actions_while_it_is_typed(reviewer):
    page = reviewer.page
    reviewer.select(2, 1)
    page.keyboard.press("n")
    page.keyboard.type("ann")
    page.evaluate("review.act({ action: 'check' })")
    page.keyboard.type("a")
    page.keyboard.press("Enter")
    reviewer.wait_for("saved: name")
    assert reviewer.tracks()[1][0] == "#1 person anna"


def test_suggestions_for_edited_tracks_are_dropped(reviewer):
    page = reviewer.page
    page.locator("#queue >> text=Suggestion 1 of").wait_for()
    crops = "review.panel.queue.list.flatMap((each) => each.crops.map((crop) => crop.track))"
    track = page.evaluate(f"{crops}[0]")
    page.evaluate("(track) => review.act({ action: 'delete', track })", track)
    assert track not in page.evaluate(crops)


def test_focused_buttons_are_pressed_by_the_keyboard_and_tracks_selected(reviewer):
    page = reviewer.page
    page.get_by_label("which frames").select_option("all")
    page.focus("#export button")
    page.keyboard.press("Enter")
    page.locator("#export p[role=status]", has_text="wrote").wait_for()
    page.keyboard.press(".")
    page.keyboard.press(".")
    assert page.evaluate("review.selected") == [2]
    page.keyboard.press(",")
    assert page.evaluate("review.selected") == [1]
    page.click("text=check all")
    reviewer.wait_for("saved: check")
    page.keyboard.press(" ")  # plays: a button that was clicked has lost the focus
    reviewer.wait_for_frame(8)
