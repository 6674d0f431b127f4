"""The review server: access control, limits of requests, and durable actions."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

pytest.importorskip("starlette", reason="the extra 'review' is not installed")

from queryinst_vis.review import ReviewSession
from queryinst_vis.review.web import guard
from tests.review_server import ReviewServer
from tests.review_support import line, write_results

SECRET = "content of a file outside the review"
ROUTES = ["/", "/review", "/frame/0", "/picture/0", "/assets/review.js", "/suggestions", "/nothing"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reviewed")
    (folder.parent / "secret.txt").write_text(SECRET)
    write_results(folder, {1: line(range(9), 2), 2: line(range(9), 12)}, 9)
    server = ReviewServer(folder)
    yield server
    server.kill()


@pytest.mark.parametrize("path", ROUTES)
def test_requests_without_the_secret_are_refused(server, path):
    for cookie in (None, "", server.cookie[:-1], server.cookie + "x", "queryinst-vis-review-1=x"):
        status, headers, body = server.request(path, Cookie=cookie)
        assert status == 403 and body.startswith(b"Refused: open the complete address")
        assert "set-cookie" not in headers
    assert server.request(f"{path}?token=", Cookie=None)[0] == 403
    assert server.request(f"{path}?token={server.token}x", Cookie=None)[0] == 403


def test_the_printed_address_opens_the_page_and_sets_a_cookie(server):
    status, headers, body = server.request(f"/?token={server.token}", Cookie=None)
    assert status == 200 and b"<title>Review</title>" in body
    value, *flags = headers["set-cookie"].split("; ")
    assert value == server.cookie
    assert {"HttpOnly", "SameSite=Strict"} <= set(flags)
    assert server.request("/review")[0] == 200  # the cookie is sufficient


def test_the_server_listens_on_one_loopback_address_only(server):
    with socket.socket() as other:
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", server.port)) != 0


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "10.0.0.1", "[::1]"]
)
def test_another_host_name_is_refused(server, host):
    status, _, body = server.request("/review", Host=host)
    assert status == 403 and b"this server is not" in body


def test_a_tunnel_may_use_another_port(server):
    assert server.request("/review", Host="localhost:9999")[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:1", "https://"]
)
def test_requests_from_pages_of_other_sites_are_refused(server, origin):
    undo = json.dumps({"action": "undo"}).encode()
    assert server.request("/review", Origin=origin)[0] == 403
    assert server.request("/action", "POST", undo, Origin=origin)[0] == 403
    assert server.request("/review", Sec_Fetch_Site="cross-site")[0] == 403
    assert server.request("/action", "POST", undo, Origin=None)[0] == 403
    assert server.request("/action", "POST", undo, Sec_Fetch_Site="same-site")[0] == 403


def test_every_response_forbids_external_scripts_and_framing(server):
    for status, headers, _ in (
        server.request("/"),
        server.request("/nothing"),
        server.request("/", Cookie=""),
    ):
        assert status in (200, 403, 404)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/assets/%2e%2e%2f%2e%2e%2fsecret.txt",
        "/assets/..%5c..%5csecret.txt",
        "/assets/%2fetc%2fpasswd",
        "/assets//etc/passwd",
        "/assets/review.js%00.txt",
        "/../secret.txt",
        "//secret.txt",
        "/picture/../../secret.txt",
        "/picture/..%2f..%2fsecret.txt",
        "/frame/-1",
        "/frame/9",
        "/frame/99999999999999999999999999",
        "/assets/__init__.py",
        "/assets/%F0%9F%90%8D%ff",
    ],
)
def test_no_path_outside_the_routes_is_served(server, path):
    status, _, body = server.request(path)
    assert status == 404
    assert SECRET.encode() not in body and b"root:" not in body


def test_a_body_that_is_too_large_is_not_read_completely(server):
    status, _, _ = server.request("/action", "POST", b" " * (guard.LARGEST_BODY + 1))
    assert status == 413
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as endless:
        head = f"POST /action HTTP/1.1\r\nHost: {server.host}\r\nOrigin: http://{server.host}\r\n"
        endless.sendall(
            f"{head}Cookie: {server.cookie}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(1000):
                endless.sendall(chunk)
        except OSError:  # the server closed the connection
            pass
        else:
            pytest.fail("the server read 65 MB")
    assert server.request("/review")[0] == 200


def test_a_body_that_does_not_arrive_times_out(monkeypatch):
    monkeypatch.setattr(guard, "BODY_TIMEOUT", 0.05)

    async def receive():
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b" ", "more_body": True}

    request = guard.Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(Exception, match="408"):
        asyncio.run(guard.read_json(request))


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "not JSON"),
        (b"\xff", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b'{"action": "merge"}', 422, "needs `first`"),
        (b'{"action": "shell", "command": "ls"}', 422, "choose from"),
        (b'{"action": "merge", "first": 1, "second": 1e999}', 422, "`second`"),
        (b'{"action": "delete", "track": 77}', 422, "track 77"),
        (b'["delete"]', 422, "must be an object"),
    ],
)
def test_an_invalid_action_is_reported_and_changes_nothing(server, body, status, message):
    before = server.request("/review")[2]
    found, _, text = server.request("/action", "POST", body)
    assert found == status
    assert message in text.decode() and b"Traceback" not in text
    assert server.request("/review")[2] == before


def test_an_action_is_on_disk_before_the_response_and_applied_once(tmp_path):
    write_results(tmp_path, {1: line(range(9), 2), 2: line(range(9), 12)}, 9)
    server = ReviewServer(tmp_path)
    split = json.dumps({"action": "split", "track": 1, "frame": 4, "id": "once"}).encode()
    status, _, body = server.request("/action", "POST", split)
    server.kill()
    assert status == 200 and json.loads(body)["result"]["created"] == [3]
    server = ReviewServer(tmp_path)
    status, _, body = server.request(
        "/action", "POST", split
    )  # as a page retries without a response
    assert status == 200 and json.loads(body)["result"]["is_repeated"]
    status, errors = server.interrupt()
    assert (status, errors) == (0, "")
    with ReviewSession.open(tmp_path) as session:
        assert [track.track_id for track in session.tracks()] == [1, 2, 3]


def test_a_conflict_is_returned_and_resolved_by_a_decision(tmp_path):
    write_results(tmp_path, {1: line(range(6), 2), 2: line(range(4, 9), 12)}, 9)
    server = ReviewServer(tmp_path)
    merge = {"action": "merge", "first": 1, "second": 2}
    status, _, body = server.request("/action", "POST", json.dumps(merge).encode())
    assert status == 409
    assert json.loads(body)["conflict"] == {"first": 1, "second": 2, "frames": [[4, 5]]}
    merge["decide_frames"] = [[4, 5, "keep second"]]
    status, _, body = server.request("/action", "POST", json.dumps(merge).encode())
    server.kill()
    assert status == 200 and json.loads(body)["removed"] == [2]


def test_a_page_that_shows_an_earlier_state_changes_nothing(tmp_path):
    write_results(tmp_path, {1: line(range(9), 2)}, 9)
    server = ReviewServer(tmp_path)
    state = json.loads(server.request("/review")[2])["state"]  # as two pages have loaded it

    def act(**action):
        found, _, body = server.request("/action", "POST", json.dumps(action).encode())
        return found, json.loads(body)

    split = {"action": "split", "track": 1, "frame": 4, "id": "once", "state": state}
    status, changes = act(**split)
    assert (status, changes["state"]) == (200, state + 1)
    status, error = act(action="delete", track=1, state=state)
    assert status == 409 and error["isStale"] and "another window" in error["error"]
    assert act(**split)[0] == 200  # a page that received no response repeats the request
    assert act(action="delete", track=1, state=state + 1)[0] == 200
    server.kill()
