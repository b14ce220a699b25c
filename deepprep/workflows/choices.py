"""The options that a subject's workflow depends on, as plain JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from deepprep.bids.spaces import OutputSpace, parse_spaces
from deepprep.config import Settings
from deepprep.data.parcellations import find_annotations
from deepprep.registration.engines import choose_normalisation
from deepprep.segmentation.engines import choose_engine
from deepprep.surface.level_set import SEGMENTATION, LevelEngineChoice, choose_level_engine
from deepprep.surface.sphere_engines import choose_sphere_engine


@dataclass(frozen=True)
class Choices:
    """What the workflow of a subject needs to know of :class:`deepprep.config.Settings`.

    Only tasks whose inputs hold one of these values are computed anew when it changes.
    """

    bids_dir: str
    out_dir: str
    run_uuid: str
    output_spaces: tuple[str, ...]
    anat_only: bool
    device: str
    random_seed: int
    seg_engine: str
    seg_files: tuple[str, ...]
    seg_reason: str
    seg_threshold: float
    norm_engine: str
    norm_files: tuple[str, ...]
    norm_reason: str
    surf_recon: bool
    fs_subjects_dir: str
    """Empty when surfaces are computed."""
    csr_engine: str
    csr_files: dict[str, str]
    """Weights by hemisphere, ``left`` and ``right``; empty for an engine without."""
    csr_reason: str
    surf_recon_fallback: str
    sphere_engine: str
    sphere_files: dict[str, dict[str, str]]
    sphere_reason: str
    surface_parcellation: tuple[str, ...]
    annotations: dict[str, dict[str, str]]
    """Files of parcellations that are not in the package, by name and hemisphere."""
    medial_surface_nan: bool
    skull_strip_t1w: str
    lesion_fill: str
    subject_anatomical_reference: str
    dummy_scans: int | None
    fd_spike_mm: float
    dvars_spike: float

    @property
    def spaces(self) -> tuple[OutputSpace, ...]:
        """Output spaces, parsed."""
        return parse_spaces(self.output_spaces)

    def to_json(self) -> str:
        """JSON text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Choices:
        """Read what :meth:`to_json` wrote."""
        raw = json.loads(text)
        tuples = {
            name: tuple(raw[name])
            for name in ("output_spaces", "seg_files", "norm_files", "surface_parcellation")
        }
        return cls(**{**raw, **tuples})

    @classmethod
    def from_settings(cls, settings: Settings, device: str) -> Choices:
        """Take what matters from the options of the run.

        Parameters
        ----------
        settings : Settings
        device : str
            The torch device that ``--device`` came to.

        Raises
        ------
        MissingResourceError
            When the weights of a network asked for are not there.
        """
        engine, files, reason = choose_engine(settings.seg_engine, settings.models_dir)
        norm = choose_normalisation(settings.norm_engine, settings.models_dir)
        sphere = choose_sphere_engine(settings.sphere_engine, settings.models_dir)
        level = chosen_level_engine(settings)
        return cls(
            bids_dir=str(settings.bids_dir),
            out_dir=str(settings.out_dir),
            run_uuid=settings.run_uuid,
            output_spaces=tuple(settings.output_spaces),
            anat_only=settings.anat_only,
            device=device,
            random_seed=settings.random_seed,
            seg_engine=engine.name,
            seg_files=tuple(str(path) for path in files),
            seg_reason=reason,
            seg_threshold=settings.seg_threshold,
            norm_engine=norm.name,
            norm_files=tuple(str(path) for path in norm.files),
            norm_reason=norm.reason,
            surf_recon=settings.surf_recon == "on",
            fs_subjects_dir=str(settings.fs_subjects_dir or ""),
            csr_engine=level.name,
            csr_files={side: str(path) for side, path in level.files.items()},
            csr_reason=level.reason,
            surf_recon_fallback=settings.surf_recon_fallback,
            sphere_engine=sphere.name,
            sphere_files=sphere.files,
            sphere_reason=sphere.reason,
            surface_parcellation=tuple(settings.surface_parcellation),
            annotations=chosen_annotations(settings),
            medial_surface_nan=settings.medial_surface_nan,
            skull_strip_t1w=settings.skull_strip_t1w,
            lesion_fill=settings.lesion_fill,
            subject_anatomical_reference=settings.subject_anatomical_reference,
            dummy_scans=settings.dummy_scans,
            fd_spike_mm=settings.fd_spike_threshold,
            dvars_spike=settings.dvars_spike_threshold,
        )


def chosen_annotations(settings: Settings) -> dict[str, dict[str, str]]:
    """Annotations that the parcellations need; none when there are to be no surfaces.

    Raises
    ------
    MissingResourceError
        When one is not there.
    """
    names = settings.surface_parcellation if settings.surf_recon == "on" else ()
    return find_annotations(names, settings.models_dir)


def chosen_level_engine(settings: Settings) -> LevelEngineChoice:
    """Engine of the cortical surfaces; nobody needs its weights when there are to be none.

    Raises
    ------
    MissingResourceError
        When its weights are not there.
    """
    name = settings.csr_engine if settings.surf_recon == "on" else SEGMENTATION
    return choose_level_engine(name, settings.models_dir)


def template_ids(spaces: tuple[OutputSpace, ...]) -> dict[str, OutputSpace]:
    """The templates to register to, by the name of their transform, each once, in order.

    Without a standard space among the outputs, the default template still gets its transforms,
    as in fMRIPrep.
    """
    found: dict[str, OutputSpace] = {}
    for space in spaces:
        if space.standard:
            found.setdefault(space.template_id, space)
    if not found:
        default = OutputSpace("MNI152NLin2009cAsym")
        found[default.template_id] = default
    return found
