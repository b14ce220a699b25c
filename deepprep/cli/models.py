"""``deepprep models``: list, fetch and verify official weights of networks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from deepprep.cli import messages
from deepprep.errors import InputError
from deepprep.nn.models import (
    GROUPS,
    MODELS_DIR_VARIABLE,
    REGISTRY,
    WeightFile,
    engines_with_weights,
    find_models_dir,
    verify,
    weights_of,
)

EXIT_OK, EXIT_BAD_FILES = 0, 1


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see deepprep models --help.")


def run(arguments: Sequence[str]) -> int:
    """Run the verb and return its exit code.

    Parameters
    ----------
    arguments : sequence of str
        What follows ``models`` on the command line.

    Returns
    -------
    int
        0; 1 when ``verify`` found a damaged file, or a file of the engine named is missing.
    """
    given = _parser().parse_args(list(arguments))
    folder = find_models_dir(given.models_dir)
    if given.action == "fetch":
        return _fetch(_chosen(given.name), folder, given.accept_unverified)
    if given.action == "verify":
        return _verify(_chosen(given.name), folder, named=given.name is not None)
    return _list(folder)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="deepprep models",
        description="Official weights of networks: which there are, fetch them, check them. "
        "'fetch' is the only command of DeepPrep that uses the network.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="{list,fetch,verify}")
    names = ", ".join((*GROUPS, *engines_with_weights()))
    for action, about in (
        ("list", "what there is, and what of it is here"),
        ("fetch", "fetch, check and keep the files of an engine; goes on where it stopped"),
        ("verify", "compare the files that are here with what was published"),
    ):
        one = actions.add_parser(action, help=about, description=about, allow_abbrev=False)
        one.add_argument(
            "--models-dir", metavar="DIR",
            help=f"folder of weights (default ${MODELS_DIR_VARIABLE}, else "
            f"{find_models_dir()})",
        )  # fmt: skip
        if action != "list":
            nargs = None if action == "fetch" else "?"
            one.add_argument("name", metavar="NAME", nargs=nargs, help=f"one of {names}")
        if action == "fetch":
            one.add_argument(
                "--accept-unverified", action="store_true",
                help="take files although no checksum of them was published",
            )  # fmt: skip
    return parser


def _chosen(name: str | None) -> list[WeightFile]:
    if name is None:
        return list(REGISTRY)
    found = weights_of(name)
    if not found:
        names = ", ".join((*GROUPS, *engines_with_weights()))
        raise InputError(f"there are no weights called {name!r}: choose one of {names}.")
    return found


def _list(folder: Path) -> int:
    print(f"Folder of models: {folder}")
    for engine in engines_with_weights():
        weights = weights_of(engine)
        print(f"\n{engine}    {weights[0].licence}")
        for weight in weights:
            known = "checksum known" if weight.checksum else "checksum unknown"
            state = verify(weight, folder).state
            print(f"  {weight.file:34} {_size(weight):>13}  {known:16}  {state}")
        if weights[0].note:
            print(f"  note: {weights[0].note}")
        for url in dict.fromkeys(u.rpartition("/")[0] for w in weights for u in w.urls):
            print(f"  from {url}")
    return EXIT_OK


def _fetch(weights: list[WeightFile], folder: Path, accept_unverified: bool) -> int:
    from deepprep.nn.download import fetch

    unverified = [w.file for w in weights if w.checksum is None]
    if unverified and not accept_unverified:
        # Said before anything is transferred, rather than after the first file.
        raise InputError(
            f"no checksum was published of {', '.join(unverified)}, so they cannot be verified: "
            "say --accept-unverified to take them all the same (their SHA-256 will be recorded)."
        )
    for weight in weights:
        if verify(weight, folder).state in ("ok", "unverified"):
            messages.say(f"{weight.file}: is here already")
            continue
        fetch(weight, folder, accept_unverified=accept_unverified, say=messages.say)
    print(f"{weights[0].engine}: all files are in {folder}")
    return EXIT_OK


def _verify(weights: list[WeightFile], folder: Path, *, named: bool) -> int:
    print(f"Folder of models: {folder}")
    wrong = False
    for weight in weights:
        verdict = verify(weight, folder)
        wrong |= verdict.state == "bad" or (named and verdict.state == "missing")
        where = verdict.path or weight.file
        print(f"  {verdict.state:10}  {where}: {verdict.detail}")
    return EXIT_BAD_FILES if wrong else EXIT_OK


def _size(weight: WeightFile) -> str:
    return "size unknown" if weight.size_bytes is None else f"{weight.size_bytes / 1e6:.1f} MB"
