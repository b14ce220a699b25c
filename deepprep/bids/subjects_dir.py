"""``--fs-subjects-dir``: which finished FreeSurfer subject belongs to which participant."""

from __future__ import annotations

from pathlib import Path

from deepprep.bids.problems import Problem
from deepprep.bids.records import SubjectInputs

HEMISPHERES = ("lh", "rh")

REQUIRED = (
    "mri/orig.mgz",
    *(f"surf/{hemi}.{name}" for hemi in HEMISPHERES for name in ("white", "pial")),
)
"""Without these a subject cannot be used; everything else follows from them."""

OPTIONAL = (
    *("orig", "smoothwm", "inflated", "thickness", "curv", "curv.pial", "sulc", "area"),
    *("area.mid", "area.pial", "volume"),
)
"""Files of ``surf`` that are used as they are when they are there."""

ALSO_NAMED = {"pial": ("pial", "pial.T1")}
"""Some copies of FreeSurfer 7 subjects lost the link from ``pial`` to its file."""

FLAG = "--fs-subjects-dir"


def folder_names(subject: SubjectInputs) -> list[str]:
    """Names that the folder of a participant may have, the likeliest first.

    fMRIPrep's: ``sub-01``; ``sub-01_ses-1`` for the anatomical reference of one session, and for
    participants with only one session.
    """
    names = [subject.name]
    if len(subject.sessions) == 1:
        names += [f"sub-{subject.label}_ses-{subject.sessions[0]}", f"sub-{subject.label}"]
    return list(dict.fromkeys(names))


def find_subject_folder(subjects_dir: str | Path, subject: SubjectInputs) -> Path | None:
    """The folder of a participant in a folder of FreeSurfer subjects."""
    for name in folder_names(subject):
        if (Path(subjects_dir) / name).is_dir():
            return Path(subjects_dir) / name
    return None


def surface_file(folder: Path, hemi: str, name: str) -> Path | None:
    """A file of ``surf``, such as ``lh.white``, if the subject has it."""
    for option in ALSO_NAMED.get(name, (name,)):
        path = folder / "surf" / f"{hemi}.{option}"
        if path.is_file():
            return path
    return None


def missing_files(folder: Path) -> list[str]:
    """What of ``REQUIRED`` a subject lacks."""
    lacking = [] if (folder / "mri" / "orig.mgz").is_file() else ["mri/orig.mgz"]
    for hemi in HEMISPHERES:
        for name in ("white", "pial"):
            if surface_file(folder, hemi, name) is None:
                lacking.append(f"surf/{hemi}.{name}")
    return lacking


def used_files(folder: Path) -> list[Path]:
    """All files of a subject that are read: their content decides what is computed anew."""
    paths = [folder / "mri" / "orig.mgz"]
    for hemi in HEMISPHERES:
        found = (surface_file(folder, hemi, n) for n in ("white", "pial", *OPTIONAL))
        paths += [path for path in found if path is not None]
        label = folder / "label" / f"{hemi}.cortex.label"
        paths += [label] if label.is_file() else []
    return paths


def check_subject_folder(subjects_dir: Path, subject: SubjectInputs) -> list[Problem]:
    """Problems with the finished surfaces of a participant, before anything is computed."""

    def problem(level: str, code: str, file: str, what: str, remedy: str) -> list[Problem]:
        return [Problem(level, file, what, remedy, "subject", subject.name, code)]

    folder = find_subject_folder(subjects_dir, subject)
    if folder is None:
        names = " or ".join(folder_names(subject))
        return problem(
            *("warning", "NO_SUBJECT_FOLDER", FLAG),
            f"{subjects_dir} holds no folder {names}",
            "Its surfaces are computed; rename its folder if it has one.",
        )
    running = sorted((folder / "scripts").glob("IsRunning.*"))
    if running:
        return problem(
            *("error", "SUBJECT_FOLDER_RUNNING", f"{folder.name}/scripts/{running[0].name}"),
            "its reconstruction seems to be going on still",
            "Wait for its end, or remove this file if it was stopped.",
        )
    lacking = missing_files(folder)
    if lacking:
        return problem(
            *("error", "SUBJECT_FOLDER_INCOMPLETE", f"{FLAG} {folder.name}"),
            f"the finished subject lacks {', '.join(lacking)}",
            f"Finish its reconstruction, or take the folder out of {subjects_dir} to have "
            "surfaces computed.",
        )
    return []
