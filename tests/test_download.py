"""Downloads: verified, resumed, and never left in a state that looks complete."""

from __future__ import annotations

import pytest

from queryinst_vis.checkpoints.download import download
from queryinst_vis.errors import InputError
from tests.download_support import CONTENT, SHA256, WRONG, names_in


def test_a_download_with_the_right_hash_is_stored(server, tmp_path):
    assert download(server.url(), tmp_path / "file", SHA256[:8]) == SHA256
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["file"]


@pytest.mark.parametrize("expected", [WRONG, WRONG[:8], SHA256[:-1] + "!"])
def test_a_download_with_a_wrong_hash_is_deleted(server, tmp_path, expected):
    with pytest.raises(InputError, match=f"SHA-256 {SHA256}, expected {expected}.*was deleted"):
        download(server.url(), tmp_path / "file", expected)
    assert names_in(tmp_path) == []


def test_an_interrupted_download_resumes_at_the_byte_reached(server, tmp_path):
    server.cut = 3_000_000
    with pytest.raises(InputError, match=r"3\.0 MB \(\d+ bytes"):
        download(server.url(), tmp_path / "file", SHA256[:8])
    assert names_in(tmp_path) == ["file.part"]
    server.cut = None
    assert download(server.url(), tmp_path / "file", SHA256[:8]) == SHA256
    assert server.ranges == [None, "bytes=3000000-"]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert names_in(tmp_path) == ["file"]


def test_a_server_without_range_support_sends_the_whole_file_again(server, tmp_path):
    (tmp_path / "file.part").write_bytes(CONTENT[:1000])
    server.resumes = False
    assert download(server.url(), tmp_path / "file", SHA256[:8]) == SHA256
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_partial_download_of_another_file_is_deleted(server, tmp_path):
    (tmp_path / "file.part").write_bytes(b"other")
    with pytest.raises(InputError, match="was deleted"):
        download(server.url(), tmp_path / "file", SHA256[:8])
    assert names_in(tmp_path) == []
    assert download(server.url(), tmp_path / "file", SHA256[:8]) == SHA256


@pytest.mark.parametrize("surplus", [b"", b"more"])
def test_a_complete_partial_file_is_accepted_and_a_longer_one_deleted(server, tmp_path, surplus):
    (tmp_path / "file.part").write_bytes(CONTENT + surplus)
    if surplus:
        with pytest.raises(InputError, match="was deleted"):
            download(server.url(), tmp_path / "file", SHA256[:8])
        assert names_in(tmp_path) == []
    else:  # interrupted between the last byte and the check
        assert download(server.url(), tmp_path / "file", SHA256[:8]) == SHA256


def test_a_response_without_a_content_length_is_refused(server, tmp_path):
    server.length, server.cut = False, 1000
    with pytest.raises(InputError, match="no content length"):
        download(server.url(), tmp_path / "file", SHA256[:8])
    assert names_in(tmp_path) == []


def test_a_connection_closed_before_the_first_byte_leaves_no_file(server, tmp_path):
    server.cut = 0
    with pytest.raises(InputError, match="cannot be downloaded"):
        download(server.url(), tmp_path / "file", SHA256)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("status", [404, 500])
def test_http_404_is_reported(server, tmp_path, status):
    server.status = status
    with pytest.raises(InputError, match=f"server .*{status}"):
        download(server.url(), tmp_path / "file", SHA256)
    assert names_in(tmp_path) == []


def test_an_unreachable_server_is_reported(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match="cannot be downloaded"):
        download(server.url(), tmp_path / "file", SHA256)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("url", ["http://example.org/a", "ftp://127.0.0.1/a", "file:///etc/hosts"])
def test_only_https_is_fetched_and_followed(server, tmp_path, url):
    with pytest.raises(InputError, match="only https"):
        download(url, tmp_path / "file", SHA256)
    server.status, server.redirect = 302, url
    with pytest.raises(InputError, match=r"only https|is not allowed"):
        download(server.url(), tmp_path / "file", SHA256)
    assert names_in(tmp_path) == []


def test_a_redirect_to_an_invalid_url_is_refused(server, tmp_path):
    server.status, server.redirect = 302, "http://["
    with pytest.raises(InputError, match="invalid URL"):
        download(server.url(), tmp_path / "file", SHA256)
    assert names_in(tmp_path) == []
