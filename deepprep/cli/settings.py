"""From what was typed (and a configuration file) to checked :class:`Settings`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepprep.bids.spaces import parse_spaces
from deepprep.cli.options import (
    CSR_ENGINES,
    FALLBACKS,
    IGNORABLE,
    LESION_FILLINGS,
    NORM_ENGINES,
    REFERENCES,
    SEG_ENGINES,
    SKULL_STRIP,
    SPHERE_ENGINES,
    SURF_RECON,
)
from deepprep.config import DEFAULT_OUTPUT_SPACES, Settings, new_run_uuid, read_options
from deepprep.data.parcellations import PARCELLATIONS
from deepprep.errors import InputError

MAX_THREADS_PER_TASK = 8
"""More threads in one task gain little (fMRIPrep's default limit)."""

_SLICE_TIMES = {"start": 0.0, "middle": 0.5, "end": 1.0}
_UNITS_GB = {"K": 1e-6, "M": 1e-3, "G": 1.0, "T": 1e3}


def make_settings(given: Mapping[str, Any]) -> Settings:
    """Settings from parsed options: defaults, then ``--config-file``, then the command line.

    Raises
    ------
    InputError
        A value out of range, a folder that is missing or in the wrong place.
    NotAvailableError
        A value that this version cannot honour.
    """
    options = dict(given)
    merged: dict[str, Any] = {}
    if "config_file" in options:
        file = _path(options["config_file"])
        merged.update(read_options(file))
        merged["config_file"] = file
    # A repeated run is a new run.
    merged.pop("run_uuid", None)
    merged.update(_from_command_line(options, merged))
    merged.setdefault("nprocs", available_cpus())
    merged.setdefault("omp_nthreads", max(1, min(merged["nprocs"], MAX_THREADS_PER_TASK)))
    merged.setdefault("work_dir", Path.cwd() / "work")
    settings = replace(Settings(), **merged, run_uuid=new_run_uuid())
    _check_values(settings)
    _check_folders(settings)
    meshes = [str(s) for s in parse_spaces(settings.output_spaces) if s.surface]
    if meshes and settings.surf_recon != "on":
        raise InputError(
            f"Output space '{meshes[0]}' needs the surfaces: leave out --surf-recon off "
            "(--fs-no-reconall), or ask for volumes only."
        )
    return settings


def available_cpus() -> int:
    """CPU threads this process may use (a container or a batch system may limit them)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1


def _from_command_line(options: dict[str, Any], from_file: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in ("bids_dir", "out_dir"):
        alias = options.get(f"{name}_alias")
        value = options.get(name)
        if alias is not None and value is not None:
            flag = "--bids" if name == "bids_dir" else "--output"
            raise InputError(f"{flag} {alias} and '{value}' name the same folder: give one.")
        typed = value if alias is None else alias
        if typed is not None:
            result[name] = _path(typed)
        elif name not in from_file:
            word = "BIDS_DIR" if name == "bids_dir" else "OUT_DIR"
            raise InputError(f"{word} is missing: deepprep BIDS_DIR OUT_DIR participant.")
    for name, prefix in (("participant_label", "sub-"), ("session_label", "ses-")):
        if name in options:
            labels = _labels(options[name], prefix)
            result[name] = () if labels == ("all",) else labels
    if "task_id" in options:
        result["task_id"] = _labels(options["task_id"], "task-")
    for name in (
        "bids_filter_file",
        "bids_database_dir",
        "models_dir",
        "lesion_mask",
        "fs_subjects_dir",
        "work_dir",
    ):
        if name in options:
            result[name] = _path(options[name])
    result.update({name: options[name] for name in _UNCHANGED if name in options})
    if "verbose" in options:
        result["verbose"] = int(options["verbose"])
    if options.get("workflow") == "smri":
        result["anat_only"] = True
    if "ignore" in options or options.get("bold_sdc") == "False":
        extra = ["fieldmaps"] if options.get("bold_sdc") == "False" else []
        result["ignore"] = tuple(dict.fromkeys([*options.get("ignore", []), *extra]))
    if options.get("skip_skullstrip"):
        if options.get("skull_strip_t1w", "skip") != "skip":
            raise InputError(
                f"--skip-skullstrip contradicts --skull-strip-t1w {options['skull_strip_t1w']}: "
                "give one."
            )
        result["skull_strip_t1w"] = "skip"
    if options.get("fs_no_reconall"):
        if options.get("surf_recon", "off") != "off":
            raise InputError("--fs-no-reconall contradicts --surf-recon on: give one.")
        result["surf_recon"] = "off"
    if "surface_parcellation" in options:
        words = [w for value in options["surface_parcellation"] for w in value.split()]
        named = ["aparc", *(w.removeprefix("aparc.") for w in words)]
        result["surface_parcellation"] = tuple(dict.fromkeys(named))
    if "slice_time_ref" in options:
        result["slice_time_ref"] = _slice_time(options["slice_time_ref"])
    if "mem" in options or "memory" in options:
        result["mem_gb"] = _memory_gb(options["mem"]) if "mem" in options else options["memory"]
    if "device" in options:
        result["device"] = _device(options["device"])
    spaces = _spaces(options)
    if spaces is not None:
        result["output_spaces"] = spaces
    return result


_UNCHANGED = (
    *("analysis_level", "skip_bids_validation", "anat_only", "dummy_scans", "fd_spike_threshold"),
    *(
        "dvars_spike_threshold",
        "seg_engine",
        "seg_threshold",
        "norm_engine",
        "surf_recon",
        "csr_engine",
        "surf_recon_fallback",
        "sphere_engine",
        "medial_surface_nan",
        "skull_strip_t1w",
        "lesion_fill",
        "subject_anatomical_reference",
        "random_seed",
    ),
    *("nprocs", "omp_nthreads", "clean_workdir", "stop_on_first_crash", "reports_only"),
    *("boilerplate_only", "dry_run"),
)
"""Options that go into the settings as they were parsed."""


def _spaces(options: Mapping[str, Any]) -> tuple[str, ...] | None:
    """``--output-spaces`` and its aliases; ``None`` when none was given."""
    spaces: list[str] = []
    given = False
    if "output_spaces" in options:
        given = True
        spaces += [word for value in options["output_spaces"] for word in value.split()]
    if "mni_template" in options:
        given = True
        spaces.append(options["mni_template"])
    res = options.get("bold_volume_res")
    if "bold_volume_space" in options or res is not None:
        given = True
        name = options.get("bold_volume_space", DEFAULT_OUTPUT_SPACES[0].split(":")[0])
        if name not in ("None", "none"):
            spaces.append(name + (f":res-{res}" if res else ""))
    return tuple(dict.fromkeys(spaces)) if given else None


def _check_values(settings: Settings) -> None:
    problems = [
        (settings.nprocs < 1, f"--nprocs {settings.nprocs} must be at least 1"),
        (settings.omp_nthreads < 1, f"--omp-nthreads {settings.omp_nthreads} must be at least 1"),
        (settings.random_seed < 0, f"--random-seed {settings.random_seed} must not be negative"),
        ((settings.dummy_scans or 0) < 0, f"--dummy-scans {settings.dummy_scans} is negative"),
        (
            not settings.fd_spike_threshold > 0,
            f"--fd-spike-threshold {settings.fd_spike_threshold:g} must be above 0",
        ),
        (
            not settings.dvars_spike_threshold > 0,
            f"--dvars-spike-threshold {settings.dvars_spike_threshold:g} must be above 0",
        ),
        (
            not 0 < settings.seg_threshold < 1,
            f"--seg-threshold {settings.seg_threshold:g} must lie between 0 and 1",
        ),
        (
            not 0 <= settings.slice_time_ref <= 1,
            f"--slice-time-ref {settings.slice_time_ref:g} must be from 0 to 1",
        ),
        (
            settings.mem_gb is not None and not settings.mem_gb >= 1,
            f"--mem is {settings.mem_gb} GB, at least 1 GB is needed (a plain number means MB)",
        ),
        (
            settings.reports_only and settings.boilerplate_only,
            "--reports-only and --boilerplate-only cannot be combined: give one",
        ),
        (
            settings.analysis_level not in ("participant", "group"),
            f"analysis level '{settings.analysis_level}' is not participant or group",
        ),
    ]
    for wrong, sentence in problems:
        if wrong:
            raise InputError(sentence + ".")
    # The parser has checked these already, unless they come from a configuration file.
    for flag, values, allowed in (
        ("--ignore", settings.ignore, IGNORABLE),
        ("--seg-engine", (settings.seg_engine,), SEG_ENGINES),
        ("--norm-engine", (settings.norm_engine,), NORM_ENGINES),
        ("--surf-recon", (settings.surf_recon,), SURF_RECON),
        ("--csr-engine", (settings.csr_engine,), CSR_ENGINES),
        ("--surf-recon-fallback", (settings.surf_recon_fallback,), FALLBACKS),
        ("--sphere-engine", (settings.sphere_engine,), SPHERE_ENGINES),
        ("--surface-parcellation", settings.surface_parcellation, PARCELLATIONS),
        ("--skull-strip-t1w", (settings.skull_strip_t1w,), SKULL_STRIP),
        ("--lesion-fill", (settings.lesion_fill,), LESION_FILLINGS),
        ("--subject-anatomical-reference", (settings.subject_anatomical_reference,), REFERENCES),
    ):
        for value in values:
            if value not in allowed:
                raise InputError(f"{flag} '{value}' is not known: use {', '.join(allowed)}.")
    _device(settings.device)


def _check_folders(settings: Settings) -> None:
    bids, out, work = settings.bids_dir, settings.out_dir, settings.work_dir
    if not bids.is_dir():
        raise InputError(f"BIDS_DIR {bids} is not a folder: check the path.")
    if out == bids or (out.is_relative_to(bids) and out.relative_to(bids).parts[0][:4] == "sub-"):
        raise InputError(
            f"OUT_DIR {out} would mix derivatives into the raw data: "
            f"use for example {bids / 'derivatives' / 'deepprep'}."
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"OUT_DIR {out} is a file: give a folder.")
    inside = work.is_relative_to(bids) and not work.is_relative_to(bids / "derivatives")
    if inside or bids.is_relative_to(work) or out.is_relative_to(work):
        raise InputError(
            f"--work-dir {work} must be a folder of its own, outside the data set and not above "
            "it or OUT_DIR: give another."
        )
    subjects = settings.fs_subjects_dir
    if subjects is not None and not subjects.is_dir():
        raise InputError(f"--fs-subjects-dir {subjects} is not a folder: check the path.")
    if subjects is not None and settings.surf_recon == "off":
        raise InputError("--fs-subjects-dir contradicts --surf-recon off: give one.")
    if settings.bids_filter_file is not None and not settings.bids_filter_file.is_file():
        raise InputError(f"--bids-filter-file {settings.bids_filter_file} does not exist.")
    if settings.lesion_mask is not None and not settings.lesion_mask.is_file():
        raise InputError(f"--lesion-mask {settings.lesion_mask} does not exist: check the path.")


def _labels(values: Sequence[str], prefix: str) -> tuple[str, ...]:
    """Labels without prefix; ``'001 002'`` and ``'[001 002]'`` (DeepPrep's way) are split."""
    words = [w for value in values for w in re.split(r"[\s,]+", value.strip("[]")) if w]
    return tuple(dict.fromkeys(w.removeprefix(prefix) for w in words))


def _slice_time(text: str) -> float:
    try:
        return _SLICE_TIMES[text] if text in _SLICE_TIMES else float(text)
    except ValueError:
        raise InputError(
            f"--slice-time-ref '{text}' must be start, middle, end or a number from 0 to 1."
        ) from None


def _memory_gb(text: str) -> float:
    match = re.fullmatch(r"\s*([0-9.]+)\s*([KMGT]?)i?B?\s*", str(text), re.IGNORECASE)
    try:
        if match is None:
            raise ValueError(text)
        return float(match[1]) * _UNITS_GB[match[2].upper() or "M"]
    except ValueError:
        raise InputError(f"--mem '{text}' must be like 8G, 8000M or a number of MB.") from None


def _device(text: str) -> str:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        return text
    if text == "gpu":
        return "auto"
    if text.isdigit():
        return f"cuda:{text}"
    raise InputError(f"--device '{text}' must be auto, cpu, cuda, cuda:N or mps.")


def _path(text: str) -> Path:
    return Path(text).expanduser().resolve()
