"""Entry point of the ``deepprep`` command: verbs and exit codes.

Exit codes: 0 all done; 1 at least one participant or run failed (the others are done);
2 bad arguments or input; 130 stopped by Ctrl-C. Heavy packages are imported only by the verb
that needs them, so that ``--version`` and ``--help`` answer at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from deepprep.cli import messages
from deepprep.errors import DeepPrepError, InputError

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.
    """
    # nipype and templateflow would otherwise ask a server for newer versions of themselves.
    os.environ["NO_ET"] = "1"
    os.environ["TEMPLATEFLOW_AUTOUPDATE"] = "0"
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        messages.say("deepprep: stopped; run the same command again to go on from here.")
        return EXIT_INTERRUPTED
    except DeepPrepError as error:
        messages.error(str(error))
        return error.exit_code
    except SystemExit as stop:  # argparse after --help and --version
        return stop.code if isinstance(stop.code, int) else EXIT_BAD_INPUT


def _dispatch(arguments: list[str]) -> int:
    from deepprep.cli.parser import SHORT_HELP

    if not arguments:
        print(SHORT_HELP)
        return EXIT_BAD_INPUT
    verb = VERBS.get(arguments[0])
    if verb is not None:
        return verb(arguments[1:])
    return preprocess(arguments)


def preprocess(arguments: Sequence[str]) -> int:
    """``deepprep BIDS_DIR OUT_DIR {participant,group}``."""
    from deepprep.cli.parser import parse
    from deepprep.cli.settings import make_settings

    settings = make_settings(parse(arguments))
    if settings.analysis_level == "group":
        from deepprep.cli.group import write_group_table

        path = write_group_table(settings.out_dir, settings.fd_spike_threshold)
        print(f"Wrote {path}")
        return EXIT_OK
    from deepprep.cli.participants import process

    return process(settings)


def phantom(arguments: Sequence[str]) -> int:
    """``deepprep phantom OUT_DIR``: a data set with known truth."""
    parser = _verb_parser("phantom", "Make a BIDS data set with known truth in sourcedata/truth.")
    parser.add_argument("out_dir", help="folder of the new data set")
    parser.add_argument("--t1w", metavar="FILE", help="head to simulate from (default Colin27)")
    parser.add_argument("--seed", "--random-seed", type=int, default=0, metavar="N")
    given = parser.parse_args(list(arguments))
    if given.t1w is not None and not os.path.isfile(given.t1w):
        raise InputError(f"--t1w {given.t1w} does not exist: give a T1w NIfTI file.")
    from deepprep.phantom import make_phantom

    make_phantom(given.out_dir, t1w_file=given.t1w, seed=given.seed)
    print(f"Wrote the phantom data set {given.out_dir}")
    return EXIT_OK


def phantom_score(arguments: Sequence[str]) -> int:
    """``deepprep phantom-score PHANTOM_DIR OUT_DIR``: derivatives against truth."""
    parser = _verb_parser("phantom-score", "Compare derivatives of a phantom with its truth.")
    parser.add_argument("phantom_dir", help="data set made by deepprep phantom")
    parser.add_argument("derivatives_dir", help="output of deepprep on it")
    given = parser.parse_args(list(arguments))
    for folder in (given.phantom_dir, given.derivatives_dir):
        if not os.path.isdir(folder):
            raise InputError(f"{folder} is not a folder: check the path.")
    from deepprep.phantom import score_phantom

    score_phantom(given.phantom_dir, given.derivatives_dir)
    return EXIT_OK


def models(arguments: Sequence[str]) -> int:
    """``deepprep models {list,fetch,verify}``: official weights of networks."""
    from deepprep.cli.models import run

    return run(arguments)


def _verb_parser(verb: str, description: str) -> argparse.ArgumentParser:
    class Parser(argparse.ArgumentParser):
        def error(self, message: str):  # type: ignore[no-untyped-def]
            raise InputError(f"{message}; see deepprep {verb} --help.")

    return Parser(prog=f"deepprep {verb}", description=description, allow_abbrev=False)


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "phantom": phantom,
    "phantom-score": phantom_score,
    "models": models,
}
"""Verbs besides the BIDS App itself."""


if __name__ == "__main__":
    sys.exit(main())
