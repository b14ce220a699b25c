"""Fetching: resumed, verified, renamed at the end; each fault is a sentence."""

import hashlib
import socket

import pytest

from deepprep.nn.download import FetchError, fetch
from deepprep.nn.models import WeightFile, read_record, verify
from tests.nn.server import serving

CONTENT = bytes(range(256)) * 4000
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
SIZE = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving() as server:
        server.files["/net.pkl"] = CONTENT
        yield server


def weight(*urls, size=SIZE, checksum=MD5):
    return WeightFile("test", "axial", "net.pkl", size, checksum, urls, "none")


def closed_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{s.getsockname()[1]}/net.pkl"


def parts(folder):
    return list(folder.glob("*.part"))


def test_file_is_fetched_verified_and_recorded(server, tmp_path):
    said = []
    one = weight(server.url("/net.pkl"))
    path = fetch(one, tmp_path / "models", say=said.append)
    assert path.read_bytes() == CONTENT
    assert said[-1] == "net.pkl: size and checksum are as published"
    assert read_record(path.parent)["net.pkl"]["sha256"] == SHA256
    assert verify(one, path.parent).state == "ok"
    assert parts(path.parent) == []


def test_transfer_that_broke_off_goes_on_where_it_stopped(server, tmp_path):
    one = weight(server.url("/net.pkl"))
    server.cut_after = 300_000
    with pytest.raises(FetchError, match="the transfer broke off"):
        fetch(one, tmp_path)
    assert not (tmp_path / "net.pkl").exists()
    assert [p.stat().st_size for p in parts(tmp_path)] == [300_000]
    server.cut_after = None
    said = []
    assert fetch(one, tmp_path, say=said.append).read_bytes() == CONTENT
    assert server.asked[-1] == ("/net.pkl", "bytes=300000-")
    assert "net.pkl: going on after 0.3 MB" in said


def test_server_without_ranges_sends_all_again(server, tmp_path):
    one = weight(server.url("/net.pkl"))
    server.cut_after = 1000
    with pytest.raises(FetchError):
        fetch(one, tmp_path)
    server.cut_after, server.no_ranges = None, True
    assert fetch(one, tmp_path).read_bytes() == CONTENT


def test_complete_part_is_not_asked_for_again(server, tmp_path):
    one = weight(server.url("/net.pkl"), size=None)
    server.cut_after = 5000
    with pytest.raises(FetchError):
        fetch(one, tmp_path)
    parts(tmp_path)[0].write_bytes(CONTENT)  # all there, but its size is not known
    server.cut_after = None
    assert fetch(one, tmp_path).read_bytes() == CONTENT
    sized = weight(server.url("/net.pkl"))
    (tmp_path / "net.pkl").unlink()
    asked = len(server.asked)
    server.cut_after = 5000
    with pytest.raises(FetchError):
        fetch(sized, tmp_path)
    parts(tmp_path)[0].write_bytes(CONTENT)
    assert fetch(sized, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == asked + 1


def test_next_address_is_tried(server, tmp_path):
    server.files["/bad.pkl"] = CONTENT[::-1]
    urls = closed_port(), server.url("/none.pkl"), server.url("/bad.pkl"), server.url("/net.pkl")
    assert fetch(weight(*urls), tmp_path).read_bytes() == CONTENT
    assert read_record(tmp_path)["net.pkl"]["url"] == urls[-1]
    assert parts(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        ("/none.pkl", {}, "it answered 404"),
        ("/net.pkl", {"checksum": "md5:" + 32 * "0"}, "its md5 checksum is wrong"),
        ("/net.pkl", {"checksum": "sha256:" + 64 * "0"}, "its sha256 checksum is wrong"),
        ("/net.pkl", {"size": 5}, f"it has {len(CONTENT)} bytes instead of 5"),
        ("/net.pkl", {"size": 9_999_999}, f"it has {len(CONTENT)} bytes instead of 9999999"),
    ],
)
def test_wrong_files_are_refused(server, tmp_path, path, change, words):
    with pytest.raises(FetchError) as error:
        fetch(weight(server.url(path), **change), tmp_path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "net.pkl").exists()


def test_wrong_content_is_not_resumed(server, tmp_path):
    server.files["/net.pkl"] = CONTENT[::-1]
    one = weight(server.url("/net.pkl"))
    with pytest.raises(FetchError, match="is not the official one"):
        fetch(one, tmp_path)
    assert parts(tmp_path) == []
    server.files["/net.pkl"] = CONTENT
    assert fetch(one, tmp_path).read_bytes() == CONTENT


def test_offline_is_one_sentence(tmp_path):
    with pytest.raises(FetchError) as error:
        fetch(weight(closed_port(), "http://no-such-host.invalid/net.pkl"), tmp_path)
    text = str(error.value)
    assert text.startswith("net.pkl could not be fetched (127.0.0.1")
    assert "connection refused; no-such-host.invalid: " in text
    assert text.endswith(f"or copy the file into {tmp_path}.")


def test_unknown_checksum_must_be_accepted_and_is_recorded(server, tmp_path):
    one = weight(server.url("/net.pkl"), checksum=None)
    with pytest.raises(FetchError, match="--accept-unverified"):
        fetch(one, tmp_path)
    assert server.asked == []
    said = []
    path = fetch(one, tmp_path, accept_unverified=True, say=said.append)
    assert said[-1] == f"net.pkl: not verified, no checksum is known; its SHA-256 is {SHA256}"
    record = read_record(tmp_path)["net.pkl"]
    assert record == {"sha256": SHA256, "url": one.urls[0], "verified": "no checksum known"}
    assert verify(one, tmp_path).state == "unverified"
    path.write_bytes(CONTENT[:-1] + b"x")
    assert verify(one, tmp_path).state == "bad"


def test_size_is_checked_without_a_checksum(server, tmp_path):
    one = weight(server.url("/net.pkl"), checksum=None, size=7)
    with pytest.raises(FetchError, match="instead of 7"):
        fetch(one, tmp_path, accept_unverified=True)


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="cannot be made"):
        fetch(weight(server.url("/net.pkl")), tmp_path / "file" / "models")
