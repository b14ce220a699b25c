"""``deepprep BIDS_DIR OUT_DIR participant``: check, plan, run, and say what failed."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

from deepprep.bids.checks import check_dataset, preflight, usable
from deepprep.bids.index import chosen_participants
from deepprep.bids.problems import Problem
from deepprep.bids.spaces import parse_spaces
from deepprep.cli import messages
from deepprep.config import Settings, save_settings
from deepprep.errors import InputError

WORK_MARKER = ".deepprep-work"
"""File that marks a folder as ours, so that ``--clean-workdir`` never empties another one."""


def process(settings: Settings) -> int:
    """Run the participant level and return the exit code (0, 1 or 2)."""
    _quiet(settings.verbose)
    dataset_problems = check_dataset(settings)
    messages.list_problems(dataset_problems)
    if any(p.is_error for p in dataset_problems):
        return 2
    chosen_participants(settings)
    check_templates(settings)
    check_weights(settings)

    from deepprep.bids.inputs import collect

    if settings.reports_only or settings.boilerplate_only:
        from deepprep.workflows.participant import rerender

        return rerender(settings, collect(settings))

    if not settings.dry_run:
        _prepare_folders(settings)

    from deepprep.bids.validator import validate

    note, from_validator = validate(settings.bids_dir, skip=settings.skip_bids_validation)
    messages.say(note)
    messages.say("Reading the data set and checking its images...")
    subjects = collect(settings)
    problems = [*dataset_problems, *from_validator, *preflight(settings, subjects)]
    messages.list_problems(problems[len(dataset_problems) :])
    good = usable(subjects, problems)
    failures = messages.failure_summary(problems)
    if settings.dry_run:
        from deepprep.cli.plan import plan_text

        print(plan_text(settings, subjects, good, problems))
        return 1 if failures else 0

    save_settings(settings, settings.work_dir / settings.run_uuid / "config.toml")
    code = 1
    if good:
        from deepprep.workflows.participant import run

        code = run(settings, good, problems)
    return _finish(code, failures)


def check_templates(settings: Settings) -> None:
    """Raise ``MissingResourceError`` when a template that will be needed is not on this machine."""
    from deepprep.data.templates import template_files

    for space in parse_spaces(settings.output_spaces):
        if space.standard:
            resolution = 1 if space.native_res else space.res
            template_files(space.name, resolution, space.cohort)


def check_weights(settings: Settings) -> None:
    """Raise ``MissingResourceError`` when weights that were asked for are not on this machine."""
    from deepprep.workflows.choices import chosen_level_engine

    chosen_level_engine(settings)


def _finish(code: int, failures: Sequence[str]) -> int:
    for line in failures:
        messages.say(line)
    return max(code, 1) if failures else code


def _prepare_folders(settings: Settings) -> None:
    """Make the output and work folders; empty the work folder if asked."""
    for flag, folder in (("OUT_DIR", settings.out_dir), ("--work-dir", settings.work_dir)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".{os.getpid()}.write-test"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(
                f"{flag} {folder} cannot be written ({error.strerror}): give another folder."
            ) from error
    if settings.clean_workdir:
        _empty(settings.work_dir)
    (settings.work_dir / WORK_MARKER).touch()


def _empty(folder: Path) -> None:
    entries = list(folder.iterdir())
    if entries and not (folder / WORK_MARKER).exists():
        raise InputError(
            f"--clean-workdir: {folder} was not made by DeepPrep (it has no {WORK_MARKER}), so it "
            "is left alone: empty it yourself or give another --work-dir."
        )
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _quiet(verbose: int) -> None:
    """Third-party chatter is kept for ``-v``."""
    levels = (logging.WARNING, logging.INFO, logging.DEBUG)
    logging.basicConfig(
        level=levels[min(verbose, 2)], format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    if not verbose:
        warnings.simplefilter("ignore")


__all__ = ["Problem", "check_templates", "process"]
