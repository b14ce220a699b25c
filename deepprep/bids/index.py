"""The pybids index of a data set, made so that one unreadable file does not break it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from deepprep.config import Settings
from deepprep.errors import InputError

NOT_RAW = ("code", "derivatives", "models", "sourcedata", "stimuli")
"""Folders at the root of a data set that hold no raw images."""


def participants(bids_dir: Path) -> list[str]:
    """Labels of all participants, without ``sub-``, sorted."""
    try:
        entries = sorted(bids_dir.iterdir())
    except OSError as error:
        raise InputError(
            f"{bids_dir} cannot be read ({error.strerror}): check the path."
        ) from error
    return [p.name[4:] for p in entries if p.name.startswith("sub-") and p.is_dir()]


def chosen_participants(settings: Settings) -> list[str]:
    """Participants to process.

    Raises
    ------
    InputError
        None in the data set, or ``--participant-label`` names one that is not there.
    """
    existing = participants(settings.bids_dir)
    if not existing:
        raise InputError(
            f"{settings.bids_dir} has no sub-* folder: give the root of a BIDS data set."
        )
    wanted = settings.participant_label
    missing = [label for label in wanted if label not in existing]
    if missing:
        raise InputError(
            f"--participant-label: sub-{', sub-'.join(missing)} does not exist in "
            f"{settings.bids_dir}; it has {_listing(existing)}."
        )
    return [label for label in existing if not wanted or label in wanted]


def unreadable_sidecars(bids_dir: Path, labels: Iterable[str]) -> dict[Path, str]:
    """JSON files at the root and of these participants that cannot be read, with the reason."""
    broken: dict[Path, str] = {}
    for path in _json_files(bids_dir, labels):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError:
            broken[path] = "it is not UTF-8 text"
        except json.JSONDecodeError as error:
            broken[path] = f"{error.msg} at line {error.lineno}" if path.stat().st_size else "empty"
        except OSError as error:
            broken[path] = str(error.strerror)
        else:
            if not isinstance(content, dict):
                broken[path] = "it does not hold a JSON object"
    return broken


def make_layout(settings: Settings, labels: Iterable[str]) -> Any:
    """The ``bids.BIDSLayout`` of the chosen participants.

    With ``--bids-database-dir`` the whole data set is indexed once and the index is reused;
    otherwise only the chosen participants are indexed, in memory. JSON files that cannot be read
    are left out (they are reported by the checks), since pybids would refuse the data set.
    """
    from bids import BIDSLayout, BIDSLayoutIndexer

    root = settings.bids_dir
    labels = sorted(labels)
    database = settings.bids_database_dir
    ignore: list[re.Pattern[str]] = [re.compile(rf"^/({'|'.join(NOT_RAW)})(/|$)")]
    for own in (settings.out_dir, settings.work_dir):
        if own != root and own.is_relative_to(root):
            ignore.append(re.compile("^/" + re.escape(own.relative_to(root).as_posix()) + "(/|$)"))
    if database is None:
        others = sorted(set(participants(root)) - set(labels))
        if others:
            ignore.append(re.compile(rf"^/sub-({'|'.join(map(re.escape, others))})(/|$)"))
    broken = unreadable_sidecars(root, participants(root) if database else labels)
    for path in broken:
        ignore.append(re.compile("^/" + re.escape(path.relative_to(root).as_posix()) + "$"))
    try:
        return BIDSLayout(
            str(root),
            validate=False,
            indexer=BIDSLayoutIndexer(validate=False, ignore=ignore),
            database_path=None if database is None else str(database),
        )
    except Exception as error:  # pybids has many: conflicting metadata, a database of another set
        sentence = " ".join(str(error).split()).rstrip(".")
        where = f" with --bids-database-dir {database} (delete it if it is old)" if database else ""
        raise InputError(f"{root} cannot be indexed by pybids{where}: {sentence}.") from error


def _json_files(bids_dir: Path, labels: Iterable[str]) -> Iterator[Path]:
    yield from sorted(p for p in bids_dir.glob("*.json") if p.name != "dataset_description.json")
    for label in labels:
        for folder, folders, files in os.walk(bids_dir / f"sub-{label}", followlinks=True):
            folders.sort()
            yield from (Path(folder, f) for f in sorted(files) if f.endswith(".json"))


def _listing(labels: list[str], limit: int = 30) -> str:
    names = [f"sub-{label}" for label in labels]
    if len(names) <= limit:
        return ", ".join(names)
    return ", ".join(names[:limit]) + f" and {len(names) - limit} more"
