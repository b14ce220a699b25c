"""What is said on the terminal besides progress: plain lines on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from deepprep.bids.problems import Problem


def say(text: str) -> None:
    """One line on standard error."""
    print(text, file=sys.stderr, flush=True)


def error(sentence: str) -> None:
    """The reason why the command stops."""
    say(f"deepprep: error: {sentence}")


def list_problems(problems: Iterable[Problem]) -> None:
    """Errors first, then warnings, each one line."""
    ordered = sorted(problems, key=lambda p: not p.is_error)
    for problem in ordered:
        say(f"{problem.level}: {problem.sentence()}")


def failure_summary(problems: Sequence[Problem]) -> list[str]:
    """One line for each participant or image that the input checks stopped."""
    lines: dict[str, str] = {}
    for problem in problems:
        if problem.is_error:
            lines.setdefault(problem.file, f"not processed: {problem.file} ({problem.what})")
    return list(lines.values())
