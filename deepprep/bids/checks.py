"""Checks before anything is computed: file, problem, remedy.

A problem of one image or participant stops only that one; a problem of the data set stops the
command.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from deepprep.bids.fieldmaps import intended_paths
from deepprep.bids.image_integrity import Finding, check_images
from deepprep.bids.index import unreadable_sidecars
from deepprep.bids.lesions import MASK_REMEDY, check_lesion
from deepprep.bids.metadata_checks import check_bold, check_fieldmap, check_t1w
from deepprep.bids.problems import Problem
from deepprep.bids.records import (
    Entities,
    FieldmapChoice,
    Image,
    RejectedFieldmap,
    Run,
    SubjectInputs,
)
from deepprep.bids.subjects_dir import check_subject_folder
from deepprep.config import Settings

CACHE_NAME = "checked_images.json"
"""File in the work folder that remembers which images were read through."""


def check_dataset(settings: Settings) -> list[Problem]:
    """Problems that stop the whole command: the data set's own description, the output folder."""
    root = settings.bids_dir
    name = "dataset_description.json"
    problems: list[Problem] = []

    def add(level: str, code: str, what: str, remedy: str, file: str = name) -> None:
        problems.append(Problem(level, file, what, remedy, "dataset", code=code))

    minimal = 'Write {"Name": "...", "BIDSVersion": "1.9.0"} there'
    path = root / name
    if not path.is_file():
        add(
            "error",
            "DESCRIPTION_MISSING",
            f"the file is missing in {root}",
            f"{minimal}, or give the folder that holds it.",
        )
    else:
        try:
            content = dict(json.loads(path.read_text(encoding="utf-8-sig")))
        except (OSError, ValueError, TypeError) as error:
            add("error", "DESCRIPTION_UNREADABLE", f"it cannot be read ({error})", f"{minimal}.")
        else:
            missing = [key for key in ("Name", "BIDSVersion") if not content.get(key)]
            if missing:
                add(
                    "warning",
                    "DESCRIPTION_INCOMPLETE",
                    f"it has no {' and no '.join(missing)}",
                    "Add what BIDS requires.",
                )
            if content.get("DatasetType") == "derivative":
                add(
                    "warning",
                    "DESCRIPTION_DERIVATIVE",
                    "DatasetType is 'derivative'",
                    "Give the raw data set if this is not it.",
                )
    return problems


def preflight(settings: Settings, subjects: Sequence[SubjectInputs]) -> list[Problem]:
    """All problems of the images of these participants.

    Every image that will be read is read through once (the result is remembered in the work
    folder), whether or not ``--skip-bids-validation`` was given.
    """
    root = settings.bids_dir
    labels = sorted({s.label for s in subjects})
    paths = [i.path for s in subjects for i in _used_images(s)]
    findings = check_images(
        paths,
        threads=settings.nprocs,
        cache=settings.work_dir / CACHE_NAME,
        write_cache=not settings.dry_run,
    )
    sidecars = unreadable_sidecars(root, labels)
    problems: list[Problem] = []
    for subject in subjects:
        problems += _check_subject(subject, findings, sidecars, settings)
    problems += _other_sidecars(sidecars, subjects, root)
    return problems


def usable(subjects: Iterable[SubjectInputs], problems: Sequence[Problem]) -> list[SubjectInputs]:
    """What can be processed: participants and images without an error.

    A field map or reference image that is damaged is taken from the run with its reason.
    """
    stopped = {p.subject for p in problems if p.is_error and p.scope == "subject"}
    bad = {p.image: p for p in problems if p.image and (p.is_error or p.code in _DAMAGED)}
    result = []
    for subject in subjects:
        if subject.name in stopped:
            continue
        runs = tuple(_without_damaged(r, bad) for r in subject.bold if r.path not in bad)
        t1w = tuple(i for i in subject.t1w if i.path not in bad)
        result.append(dataclasses.replace(subject, bold=runs, t1w=t1w))
    return result


_DAMAGED = {
    *("FILE_MISSING", "EMPTY_FILE", "FILE_UNREADABLE", "WRONG_GZIP", "BAD_HEADER", "TRUNCATED"),
    *(
        "BAD_TYPE",
        "NAN_VALUES",
        "ALL_ZERO",
        "CONSTANT",
        "NO_ORIENTATION",
        "BAD_ORIENTATION",
        "SHEARED_ORIENTATION",
    ),
}
"""Codes of :func:`check_image`."""


def _check_subject(
    subject: SubjectInputs,
    findings: dict[str, Finding | None],
    sidecars: dict[Path, str],
    settings: Settings,
) -> list[Problem]:
    root = settings.bids_dir
    problems: list[Problem] = []

    def add(image: Image, level: str, finding: Finding) -> None:
        problems.append(
            Problem(
                level,
                relative(image.path, root),
                finding.what,
                finding.remedy,
                scope="image",
                subject=subject.name,
                code=finding.code,
                image=image.path,
            )
        )

    for image in subject.t1w:
        finding = findings[image.path]
        if finding is not None and finding.code == "NAN_VALUES":
            remedy = (
                "They are filled from their neighbours inside the head and taken as empty "
                "elsewhere; convert the image again if it should have none."
            )
            add(image, "warning", Finding("NAN_IN_T1W", finding.what, remedy))
        elif finding is not None:
            add(image, "error", finding)
        for level, finding in check_t1w(image):
            add(image, level, finding)
    for run in subject.bold:
        finding = findings[run.path]
        if finding is not None:
            add(run, "error", finding)
        broken = [p for p in sidecars if applies_to(p, run, root)]
        for path in broken:
            add(
                run,
                "error",
                Finding(
                    "SIDECAR_UNREADABLE",
                    f"its sidecar {relative(str(path), root)} cannot be read ({sidecars[path]})",
                    "Correct the JSON (a missing comma or bracket), or convert again.",
                ),
            )
        for level, finding in check_bold(run, settings.ignore):
            if broken and finding.code in ("SIDECAR_MISSING", "TR_MISSING"):
                continue
            add(run, level, finding)
        if run.sbref is not None and findings[run.sbref.path] is not None:
            add(run.sbref, "warning", findings[run.sbref.path] or Finding("", "", ""))
    for image in subject.fieldmaps:
        finding = findings[image.path]
        if finding is not None:
            add(image, "warning", finding)
        for level, finding in [*check_fieldmap(image.metadata), *_intended(image, subject, root)]:
            add(image, level, finding)
    if settings.fs_subjects_dir is not None:
        problems += check_subject_folder(settings.fs_subjects_dir, subject)
    problems += _lesions(subject, findings, settings)
    return problems + _whole_subject(subject, problems, settings)


def _lesions(
    subject: SubjectInputs, findings: dict[str, Finding | None], settings: Settings
) -> list[Problem]:
    """Lesion masks. A bad one stops the participant: the lesion would pull the normalisation."""
    found: list[tuple[Image, str, Finding]] = []
    whole = [i for i in subject.t1w if findings[i.path] is None]
    for image in subject.lesions:
        if settings.norm_engine == "synthmorph":
            what = "the networks of --norm-engine synthmorph cannot leave a lesion out"
            remedy = "Use --norm-engine refine or synthmorph+refine."
            found.append((image, "error", Finding("LESION_ENGINE", what, remedy)))
        finding = findings[image.path]
        if finding is not None and finding.code == "ALL_ZERO":
            empty = Finding("LESION_EMPTY", "the lesion mask is empty", MASK_REMEDY)
            found.append((image, "error", empty))
        elif finding is not None and finding.code != "CONSTANT":  # a mask has one value
            found.append((image, "error", finding))
        elif whole:
            found += [(image, level, f) for level, f in check_lesion(image, whole)]
    for image in subject.other_rois:
        remedy = "It is not used: name it *_label-lesion_roi if it is a lesion."
        what = "its label says that this region is not a lesion"
        found.append((image, "warning", Finding("ROI_IGNORED", what, remedy)))
    root = settings.bids_dir
    return [
        Problem(
            level, relative(image.path, root), finding.what, finding.remedy,
            scope="subject" if level == "error" else "image", subject=subject.name,
            code=finding.code,
        )
        for image, level, finding in found
    ]  # fmt: skip


def _whole_subject(
    subject: SubjectInputs, problems: Sequence[Problem], settings: Settings
) -> list[Problem]:
    """No T1w at all, none that can be used, or nothing functional."""
    bad = {p.image for p in problems if p.is_error}
    folder = f"sub-{subject.label}"
    if subject.anatomical_session:
        folder += f"/ses-{subject.anatomical_session}"

    def problem(level: str, code: str, what: str, remedy: str) -> Problem:
        return Problem(level, folder, what, remedy, "subject", subject.name, code)

    if not subject.t1w:
        return [
            problem(
                "error",
                "NO_T1W",
                "it has no T1w image" + _filter_note(settings),
                f"Put one at {folder}/anat/{subject.name}_T1w.nii.gz.",
            )
        ]
    if all(i.path in bad for i in subject.t1w):
        return [
            problem(
                "error",
                "NO_USABLE_T1W",
                "none of its T1w images can be used",
                "Repair one (above).",
            )
        ]
    if not subject.bold and not settings.anat_only:
        return [
            problem(
                "warning",
                "NO_BOLD",
                "it has no BOLD run"
                + _filter_note(settings)
                + ", so only its anatomy is processed",
                "Say --anat-only if that is intended.",
            )
        ]
    return []


def _intended(image: Image, subject: SubjectInputs, root: Path) -> list[tuple[str, Finding]]:
    """IntendedFor of a field map: each target must exist inside the data set."""
    found = []
    texts = image.metadata.get("IntendedFor") or []
    texts = [texts] if isinstance(texts, str) else texts
    for text, path in zip(texts, intended_paths(image.metadata, root, subject.label), strict=True):
        if path is None or not path.is_relative_to(root):
            found.append(
                (
                    "warning",
                    Finding(
                        "INTENDED_FOR_OUTSIDE",
                        f"IntendedFor names '{text}', which is outside the data set",
                        "It is not used: name a path inside the participant's folder.",
                    ),
                )
            )
        elif not path.exists():
            found.append(
                (
                    "warning",
                    Finding(
                        "INTENDED_FOR_MISSING",
                        f"IntendedFor names '{text}', which does not exist",
                        "Correct the path (it starts below the participant's folder, such as "
                        f"func/sub-{subject.label}_task-X_bold.nii.gz).",
                    ),
                )
            )
    return found


def _other_sidecars(
    sidecars: dict[Path, str], subjects: Sequence[SubjectInputs], root: Path
) -> list[Problem]:
    """Unreadable JSON files that no BOLD run depends on: a warning each."""
    problems = []
    for path, reason in sidecars.items():
        if any(applies_to(path, run, root) for s in subjects for run in s.bold):
            continue
        owner = next((s.name for s in subjects if path.is_relative_to(root / f"sub-{s.label}")), "")
        problems.append(
            Problem(
                "warning",
                relative(str(path), root),
                f"it cannot be read ({reason})",
                "It is not used: correct the JSON.",
                "image" if owner else "dataset",
                owner,
                "SIDECAR_UNREADABLE",
            )
        )
    return problems


def applies_to(sidecar: Path, image: Image, root: Path) -> bool:
    """Whether a JSON file applies to an image by the BIDS inheritance principle."""
    if not Path(image.path).is_relative_to(sidecar.parent) or not sidecar.is_relative_to(root):
        return False
    *pairs, suffix = sidecar.name.removesuffix(".json").split("_")
    entities: Entities = {k: v for k, _, v in (p.partition("-") for p in pairs)}
    return suffix == image.entities.get("suffix") and all(
        image.entities.get(k) == v for k, v in entities.items()
    )


def relative(path: str, root: Path) -> str:
    """Path below the data set, or as it is."""
    try:
        return Path(os.path.normpath(path)).relative_to(root).as_posix()
    except ValueError:
        return path


def _filter_note(settings: Settings) -> str:
    chosen = [
        flag
        for flag, value in (
            ("--session-label", settings.session_label),
            ("--task-id", settings.task_id),
            ("--bids-filter-file", settings.bids_filter_file),
        )
        if value
    ]
    return f" among those that {', '.join(chosen)} select" if chosen else ""


def _used_images(subject: SubjectInputs) -> list[Image]:
    references = [r.sbref for r in subject.bold if r.sbref is not None]
    return [*subject.t1w, *subject.bold, *references, *subject.fieldmaps, *subject.lesions]


def _without_damaged(run: Run, bad: dict[str, Problem]) -> Run:
    """The run without a damaged field map or reference image."""
    if run.sbref is not None and run.sbref.path in bad:
        run = dataclasses.replace(run, sbref=None)
    damaged = [s for s in run.fieldmap.sources if s in bad]
    if not damaged:
        return run
    problem = bad[damaged[0]]
    reason = f"{problem.file} cannot be used: {problem.what}"
    rejected = RejectedFieldmap(run.fieldmap.method, run.fieldmap.sources, reason)
    choice = FieldmapChoice(
        reason=reason,
        phase_encoding_direction=run.fieldmap.phase_encoding_direction,
        total_readout_time_s=run.fieldmap.total_readout_time_s,
        rejected=(rejected, *run.fieldmap.rejected),
    )
    return dataclasses.replace(run, fieldmap=choice)
