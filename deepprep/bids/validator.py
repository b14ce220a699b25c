"""The external BIDS validator, when it is installed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from deepprep.bids.problems import Problem

PROGRAM = "bids-validator-deno"

TIMEOUT_S = 600


def validate(bids_dir: Path, *, skip: bool = False) -> tuple[str, list[Problem]]:
    """Run the validator over the data set.

    Returns
    -------
    note : str
        What was done, or why not: one sentence for the log and the report.
    problems : list of Problem
        Its errors, as warnings: what stops processing is found by our own checks.
    """
    if skip:
        return "BIDS validation was skipped (--skip-bids-validation).", []
    program = shutil.which(PROGRAM)
    if program is None:
        return (
            f"BIDS validation was skipped: {PROGRAM} is not installed (pip install {PROGRAM}).",
            [],
        )
    try:
        done = subprocess.run(
            [program, str(bids_dir), "--json"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        report = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return f"BIDS validation was given up: {PROGRAM} took over {TIMEOUT_S} s.", []
    except (OSError, ValueError) as error:
        return f"BIDS validation failed: {PROGRAM} gave no usable result ({error}).", []
    problems = _problems(report)
    count = len(problems)
    kinds = "kind of error" if count == 1 else "kinds of error"
    return f"{PROGRAM} found {count} {kinds} in the data set.", problems


def _problems(report: dict[str, Any]) -> list[Problem]:
    issues = report.get("issues", {})
    messages = issues.get("codeMessages", {}) if isinstance(issues, dict) else {}
    entries = issues.get("issues", []) if isinstance(issues, dict) else issues
    places: dict[tuple[str, str], list[str]] = {}
    for issue in entries:
        if issue.get("severity") != "error":
            continue
        code = str(issue.get("code", "UNKNOWN"))
        message = str(issue.get("issueMessage") or messages.get(code) or "")
        # Messages go on with advice for the web page; their first sentence says what is wrong.
        first = " ".join(message.split()).split(". ")[0].rstrip(".")
        sub_code = f" ({issue['subCode']})" if issue.get("subCode") else ""
        location = str(issue.get("location") or "").lstrip("/") or "data set"
        key = (code, f"{code}{sub_code}" + (f": {first}" if first else ""))
        places.setdefault(key, []).append(location)
    return [
        Problem(
            "warning",
            locations[0] + (f" and {len(locations) - 1} more" if len(locations) > 1 else ""),
            f"the BIDS validator says {what}",
            "Correct it, or say --skip-bids-validation.",
            "dataset",
            code="BIDS_VALIDATOR",
        )
        for (_, what), locations in places.items()
    ]
