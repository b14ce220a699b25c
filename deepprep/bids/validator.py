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
    return f"{PROGRAM} found {count} error{'s' if count != 1 else ''} in the data set.", problems


def _problems(report: dict[str, Any]) -> list[Problem]:
    issues = report.get("issues", {})
    messages = issues.get("codeMessages", {}) if isinstance(issues, dict) else {}
    entries = issues.get("issues", []) if isinstance(issues, dict) else issues
    problems = []
    for issue in entries:
        if issue.get("severity") != "error":
            continue
        code = str(issue.get("code", "UNKNOWN"))
        message = issue.get("issueMessage") or messages.get(code) or code
        sub_code = f" ({issue['subCode']})" if issue.get("subCode") else ""
        location = str(issue.get("location") or "").lstrip("/") or "data set"
        problems.append(
            Problem(
                "warning",
                location,
                f"the BIDS validator says {code}{sub_code}: {' '.join(str(message).split())}",
                "Correct it, or say --skip-bids-validation.",
                "dataset",
                code="BIDS_VALIDATOR",
            )
        )
    return problems
