"""All options of a run in one frozen object, and its TOML form.

The same object is filled from the command line, from ``--config-file`` (the command line wins),
and saved with every run, so that ``deepprep --config-file saved.toml`` repeats it.
"""

from __future__ import annotations

import json
import os
import tomllib
import uuid
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from deepprep.errors import InputError

DEFAULT_OUTPUT_SPACES = ("MNI152NLin2009cAsym:res-native",)
"""fMRIPrep's default: the template's space on a grid with the BOLD run's own voxel size."""


@dataclass(frozen=True)
class Settings:
    """Options of a run; names follow fMRIPrep's flags with ``-`` written ``_``."""

    bids_dir: Path = Path()
    """Root of the BIDS data set (absolute)."""
    out_dir: Path = Path()
    """Root of the derivatives (absolute)."""
    analysis_level: str = "participant"
    """``participant`` or ``group``."""

    participant_label: tuple[str, ...] = ()
    """Labels without ``sub-``; empty means all."""
    session_label: tuple[str, ...] = ()
    """Labels without ``ses-``; empty means all."""
    task_id: tuple[str, ...] = ()
    """BOLD tasks to process; empty means all."""
    bids_filter_file: Path | None = None
    """JSON of pybids queries by kind of image, as fMRIPrep reads it."""
    skip_bids_validation: bool = False
    """Do not run the external BIDS validator (the data integrity checks always run)."""
    bids_database_dir: Path | None = None
    """Folder of a pybids index: reused when it is there, written when it is not."""

    anat_only: bool = False
    """Leave BOLD runs alone."""
    output_spaces: tuple[str, ...] = DEFAULT_OUTPUT_SPACES
    """Space specifications such as ``MNI152NLin2009cAsym:res-2`` or ``T1w``, one grid each."""
    ignore: tuple[str, ...] = ()
    """Parts to leave out: ``fieldmaps``, ``slicetiming``, ``sbref``, ``fmap-jacobian``..."""
    dummy_scans: int | None = None
    """Non-steady-state frames at the start; ``None`` finds them automatically."""
    slice_time_ref: float = 0.5
    """Reference time of slice timing, as a fraction of the acquisition: 0 first, 1 last slice."""
    fd_spike_threshold: float = 0.5
    """Framewise displacement in mm above which a frame is a motion outlier."""
    dvars_spike_threshold: float = 1.5
    """Standardised DVARS above which a frame is a motion outlier."""
    seg_engine: str = "auto"
    """``auto`` (official weights when they are there, else ours), ``deepprep``,
    ``fastsurfer-vinn`` or ``fastsurfer-v1``."""
    seg_threshold: float = 0.5
    """Posterior from which a voxel is called brain structure."""
    models_dir: Path | None = None
    """Folder of official weights; ``None`` looks in DEEPPREP_MODELS_DIR and the user's cache."""
    norm_engine: str = "auto"
    """``auto`` (refine), ``refine``, ``synthmorph`` or ``synthmorph+refine``."""
    surf_recon: str = "on"
    """``on`` or ``off``: reconstruct the cortical surfaces."""
    fs_subjects_dir: Path | None = None
    """Folder of finished FreeSurfer subjects whose surfaces are used."""
    csr_engine: str = "auto"
    """First surface of the white matter: ``auto``, ``segmentation``, ``fastcsr`` or ``compact``."""
    surf_recon_fallback: str = "volume"
    """When a hemisphere fails: ``volume`` goes on with volumes, ``none`` stops the participant."""
    sphere_engine: str = "auto"
    """How hemispheres are registered to fsaverage: ``auto``, ``sugar`` or ``refine``."""
    surface_parcellation: tuple[str, ...] = ("aparc",)
    """Parcellations of the cortex; ``aparc`` is always among them."""
    medial_surface_nan: bool = False
    """BOLD on surfaces is NaN on the medial wall."""
    skull_strip_t1w: str = "auto"
    """``auto`` (keep an image that is already stripped), ``skip`` or ``force``."""
    subject_anatomical_reference: str = "unbiased"
    """``unbiased`` (average of all T1w) or ``sessionwise`` (one reference for each session)."""
    lesion_mask: Path | None = None
    """Lesion of the one participant, instead of the ``*_roi`` files of the data set."""
    lesion_fill: str = "none"
    """``none``; or fill lesions with the other side (``mirror``) or with white matter (``white``)."""
    random_seed: int = 0
    """Seed of every random number generator."""

    nprocs: int = 1
    """CPU threads that all tasks together may use."""
    omp_nthreads: int = 1
    """CPU threads that one task may use."""
    mem_gb: float | None = None
    """Memory in GB that all tasks together may use; ``None`` takes what the machine has."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    work_dir: Path = Path("work")
    """Folder of intermediate results (absolute)."""
    clean_workdir: bool = False
    """Empty the work folder before starting."""
    stop_on_first_crash: bool = False
    """Stop all subjects when one task fails."""
    reports_only: bool = False
    """Only rebuild the HTML reports of existing derivatives."""
    boilerplate_only: bool = False
    """Only rewrite the methods text of existing derivatives."""
    dry_run: bool = False
    """Print the plan and compute nothing."""
    verbose: int = 0
    """How many ``-v``."""
    run_uuid: str = ""
    """Identifier of this run: date, time and a random part."""
    config_file: Path | None = None
    """TOML file that the options were read from."""


SECTIONS: dict[str, tuple[str, ...]] = {
    "input": (
        "bids_dir",
        "participant_label",
        "session_label",
        "task_id",
        "bids_filter_file",
        "skip_bids_validation",
        "bids_database_dir",
    ),
    "output": ("out_dir",),
    "execution": (
        "analysis_level",
        "nprocs",
        "omp_nthreads",
        "mem_gb",
        "device",
        "work_dir",
        "clean_workdir",
        "stop_on_first_crash",
        "reports_only",
        "boilerplate_only",
        "dry_run",
        "verbose",
        "run_uuid",
        "config_file",
    ),
    "workflow": (
        "anat_only",
        "output_spaces",
        "ignore",
        "dummy_scans",
        "slice_time_ref",
        "fd_spike_threshold",
        "dvars_spike_threshold",
        "seg_engine",
        "seg_threshold",
        "models_dir",
        "norm_engine",
        "surf_recon",
        "fs_subjects_dir",
        "csr_engine",
        "surf_recon_fallback",
        "sphere_engine",
        "surface_parcellation",
        "medial_surface_nan",
        "skull_strip_t1w",
        "subject_anatomical_reference",
        "lesion_mask",
        "lesion_fill",
        "random_seed",
    ),
}
"""Fields of :class:`Settings` by section of the TOML file."""


def new_run_uuid() -> str:
    """Identifier of a run in fMRIPrep's form, such as ``20261122-180235_<uuid4>``."""
    return f"{datetime.now():%Y%m%d-%H%M%S}_{uuid.uuid4()}"


def to_toml(settings: Settings) -> str:
    """Text of a TOML file; fields that are ``None`` are left out."""
    lines = ["# DeepPrep run options; use with --config-file, the command line wins."]
    for section, names in SECTIONS.items():
        lines += ["", f"[{section}]"]
        for name in names:
            value = getattr(settings, name)
            if value is not None:
                lines.append(f"{name} = {_toml_value(value)}")
    return "\n".join(lines) + "\n"


def save_settings(settings: Settings, path: str | os.PathLike) -> Path:
    """Write the TOML file atomically and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.part.{path.name}")
    part.write_text(to_toml(settings), encoding="utf-8")
    os.replace(part, path)
    return path


def read_options(path: str | os.PathLike) -> dict[str, Any]:
    """Options in a TOML file, typed for :class:`Settings`.

    Relative paths in the file are taken from the folder of the file.

    Raises
    ------
    InputError
        The file is not there, is not TOML, or has an unknown option or a wrong type.
    """
    path = Path(path)
    try:
        with open(path, "rb") as f:
            document = tomllib.load(f)
    except OSError as error:
        raise InputError(
            f"--config-file {path} cannot be read ({error.strerror}): give the path of a TOML file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"--config-file {path} is not valid TOML ({error}): correct that line."
        ) from error
    flat: dict[str, Any] = {}
    for key, value in document.items():
        flat.update(value if isinstance(value, dict) else {key: value})
    known = {f.name for f in fields(Settings)}
    unknown = sorted(set(flat) - known)
    if unknown:
        raise InputError(
            f"--config-file {path} has the unknown option '{unknown[0]}': remove it or correct "
            f"its name (known: {', '.join(sorted(known))})."
        )
    return {name: _typed(name, value, path) for name, value in flat.items()}


def from_toml(path: str | os.PathLike) -> Settings:
    """Settings of a saved TOML file."""
    return replace(Settings(), **read_options(path))


_PATHS = {
    *("bids_dir", "out_dir", "work_dir", "bids_filter_file", "bids_database_dir"),
    *("models_dir", "fs_subjects_dir", "lesion_mask", "config_file"),
}
_NUMBERS = {
    "slice_time_ref",
    "fd_spike_threshold",
    "dvars_spike_threshold",
    "seg_threshold",
    "mem_gb",
}


def _typed(name: str, value: Any, file: Path) -> Any:
    """One TOML value as the type of its field."""
    default = getattr(Settings(), name)
    if name in _PATHS and isinstance(value, str):
        return (file.parent / Path(value).expanduser()).resolve()
    if name in _NUMBERS and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, tuple):
        values = [value] if isinstance(value, str) else value
        if isinstance(values, list) and all(isinstance(v, str) for v in values):
            return tuple(values)
    elif isinstance(default, bool):
        if isinstance(value, bool):
            return value
    elif name == "dummy_scans" or isinstance(default, int):
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif isinstance(default, str) and isinstance(value, str):
        return value
    raise InputError(
        f"--config-file {file}: option '{name}' has a value of the wrong type ({value!r}); "
        "write it as the saved config.toml of a run does."
    )


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    # A JSON string is a valid TOML basic string, except for DEL, which no sane path holds.
    return json.dumps(str(value), ensure_ascii=False)
