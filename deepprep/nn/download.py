"""Fetch a file of weights: several addresses, resumed where it stopped, checked, then renamed."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from deepprep._version import __version__
from deepprep.errors import DeepPrepError
from deepprep.nn.models import WeightFile, file_digest, mismatch, write_record

TIMEOUT_S = 30.0
"""Longest silence of a server."""

CHUNK_BYTES = 1 << 18
RANGE_REFUSED = 416
PARTIAL = 206


class FetchError(DeepPrepError):
    """A file of weights could not be fetched from any of its addresses."""


class _TryNext(Exception):
    """This address did not give the file; the text says why."""


def fetch(
    weight: WeightFile,
    folder: Path,
    *,
    accept_unverified: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Fetch one file into a folder.

    Parameters
    ----------
    weight : WeightFile
    folder : Path
        Made when it does not exist.
    accept_unverified : bool
        Take a file although no checksum of it is known.
    say : callable
        Told what happens, in sentences.

    Returns
    -------
    Path
        The file; its SHA-256 and address are added to the folder's record.

    Raises
    ------
    FetchError
        When no checksum is known and that was not accepted, or when no address gave the file.
    """
    if weight.checksum is None and not accept_unverified:
        size = f"only its size, {weight.size_bytes} bytes," if weight.size_bytes else "nothing"
        raise FetchError(
            f"no checksum of {weight.file} was published, {size} could be verified: say "
            "--accept-unverified to take it all the same (its SHA-256 will be recorded)."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FetchError(
            f"{folder} cannot be made ({error.strerror}): give another folder with --models-dir."
        ) from error
    reasons = []
    for url in weight.urls:
        host = urlsplit(url).netloc
        say(f"{weight.file}: asking {host}")
        # One per address: what two servers sent is never joined.
        part = folder / f"{weight.file}.{zlib.crc32(url.encode()):08x}.part"
        try:
            _receive(url, part, weight, say)
        except _TryNext as reason:
            reasons.append(f"{host}: {reason}")
            continue
        path = folder / weight.file
        digest = file_digest(part, "sha256")
        part.replace(path)
        verified = "yes" if weight.checksum else "no checksum known"
        write_record(folder, {weight.file: {"sha256": digest, "url": url, "verified": verified}})
        for left in folder.glob(f"{weight.file}.*.part"):
            left.unlink()
        if weight.checksum is None:
            say(f"{weight.file}: not verified, no checksum is known; its SHA-256 is {digest}")
        else:
            say(f"{weight.file}: size and checksum are as published")
        return path
    raise FetchError(
        f"{weight.file} could not be fetched ({'; '.join(reasons)}): try again when this machine "
        f"is online, or copy the file into {folder}."
    )


def _receive(url: str, part: Path, weight: WeightFile, say: Callable[[str], None]) -> None:
    """Complete the part file from one address and check it."""
    have = part.stat().st_size if part.exists() else 0
    if weight.size_bytes is not None and have > weight.size_bytes:
        part.unlink()
        have = 0
    if have == 0 or have != weight.size_bytes:
        try:
            _transfer(url, part, have, say)
        except HTTPError as error:
            if error.code == RANGE_REFUSED and have:
                _restart(url, part, say)
            else:
                raise _TryNext(f"it answered {error.code} {error.reason}") from error
        except URLError as error:
            raise _TryNext(_reason(error.reason)) from error
        except (OSError, HTTPException) as error:
            raise _TryNext(f"the transfer broke off ({_reason(error)})") from error
    problem = mismatch(weight, part)
    if not problem:
        return
    if weight.size_bytes is None or part.stat().st_size >= weight.size_bytes:
        part.unlink()
    raise _TryNext(f"the file is not the official one, {problem}")


def _restart(url: str, part: Path, say: Callable[[str], None]) -> None:
    """The server has nothing after what is here: take the whole file again."""
    part.unlink()
    try:
        _transfer(url, part, 0, say)
    except HTTPError as error:
        raise _TryNext(f"it answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        raise _TryNext(f"the transfer broke off ({_reason(error)})") from error


def _transfer(url: str, part: Path, have: int, say: Callable[[str], None]) -> None:
    headers = {"User-Agent": f"DeepPrep/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT_S) as answer:
        resumed = have and answer.status == PARTIAL
        if resumed:
            say(f"{part.name.rsplit('.', 2)[0]}: going on after {have / 1e6:.1f} MB")
        expected = answer.headers.get("Content-Length")
        received = 0
        with open(part, "ab" if resumed else "wb") as file:
            while chunk := answer.read(CHUNK_BYTES):
                file.write(chunk)
                received += len(chunk)
            file.flush()
            os.fsync(file.fileno())
    if expected is not None and received < int(expected):
        raise OSError(f"{received} of {expected} bytes")


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
