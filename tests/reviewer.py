"""A user of the review page in a real browser."""

from __future__ import annotations

from tests.review_server import ReviewServer
from tests.review_support import HEIGHT, WIDTH, line

FRAMES = 9
ATTACK = "<img src=x onerror=alert(1)>"
TRACKS = {
    1: line(range(FRAMES), 1),
    2: line(range(FRAMES), 8),
    3: line(range(5, FRAMES), 15, x=4),
    4: line(range(4), 15, x=4),
}


class Reviewer:
    """A page in the browser; ``survive`` kills and restarts its server."""

    def __init__(self, browser, folder, video):
        self.folder, self.video = folder, video
        self.page = browser.new_context(viewport={"width": 1000, "height": 900}).new_page()
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("dialog", lambda dialog: dialog.accept(ATTACK))
        self.server = None
        self.survive()

    def _note(self, message):
        # a killed server refuses connections, and may leave a response incomplete
        expected = ("409 (Conflict)", "ERR_CONNECTION", "ERR_CONTENT_LENGTH_MISMATCH")
        is_expected = any(each in message.text for each in expected)
        if message.type in ("error", "warning") and not is_expected:
            self.errors.append(f"{message.text} {message.location}")

    def survive(self):
        """Kill the server, restart it on the same port, and open the page again."""
        port = 0
        if self.server is not None:
            port = self.server.port
            self.server.kill()
        self.server = ReviewServer(self.folder, self.video, port)
        self.page.goto(self.server.url)
        self.page.locator("#panel").wait_for()

    def tracks(self):
        """``{id: (title, spans)}`` as shown by the page."""
        shown = self.page.evaluate("review.shown().map((t) => [t.id, t.title, t.spans])")
        return {id_: (title, [tuple(span) for span in spans]) for id_, title, spans in shown}

    def at(self, frame):
        self.page.evaluate("(frame) => review.player.seek(frame)", frame)

    def select(self, frame, *tracks):
        """Click on tracks in the frame."""
        self.at(frame)
        self.page.keyboard.press("Escape")
        for number, track in enumerate(tracks):
            x, y = TRACKS[track][frame]
            self.click(x + 2, y + 2, modifiers=["Shift"] if number else [])
        assert self.page.evaluate("review.selected") == list(tracks)

    def click(self, x, y, **options):
        box = self.page.locator(".player-canvas").bounding_box()
        position = {"x": box["width"] * x / WIDTH, "y": box["height"] * y / HEIGHT}
        self.page.click(".player-canvas", position=position, **options)

    def press(self, key, status=None):
        self.page.keyboard.press(key)
        if status is not None:
            self.wait_for(status)

    def wait_for_frame(self, number):
        from playwright.sync_api import expect

        expect(self.page.get_by_label("frame number")).to_have_value(str(number))

    def wait_for(self, status):
        from playwright.sync_api import expect

        expect(self.page.locator("#status")).to_contain_text(status)
