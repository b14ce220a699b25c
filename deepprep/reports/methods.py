"""The sentences of the methods section, one function a step, with the papers they cite.

A workflow keeps the :class:`Step` of each stage it really ran, so the text cannot claim anything
else. ``[@key]`` in a sentence refers to ``deepprep/data/reports/references.bib``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

Section = Literal["anatomical", "fieldmap", "functional"]
_CITATION = re.compile(r"@([A-Za-z][A-Za-z0-9_]*)")


@dataclass(frozen=True)
class Step:
    """What one stage did, in words.

    Parameters
    ----------
    name : str
        Stage, such as ``head_motion``.
    section : {'anatomical', 'fieldmap', 'functional'}
        Where the sentence goes.
    text : str
        One or more sentences of Markdown with ``[@key]`` citations.
    """

    name: str
    section: Section
    text: str

    @property
    def citations(self) -> tuple[str, ...]:
        """Keys cited, in order of appearance."""
        return tuple(dict.fromkeys(_CITATION.findall(self.text)))

    def to_dict(self) -> dict[str, str]:
        """Plain dictionary (for JSON)."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, str]) -> Step:
        """The inverse of :meth:`to_dict`."""
        return Step(values["name"], values["section"], values["text"])  # type: ignore[arg-type]


def conform(n_t1w: int, reference: str = "unbiased") -> Step:
    """Conform, and the average when there are several images (``unbiased`` or ``first-lex``)."""
    if n_t1w == 1:
        text = (
            "The T1-weighted (T1w) image was reoriented to RAS axes without interpolation "
            "and used as the anatomical reference of the workflow."
        )
    else:
        text = (
            f"The {n_t1w} T1-weighted (T1w) images were reoriented to RAS axes, aligned by rigid "
            "registration to their common mean space, which favours none of them, and averaged "
            "robustly [@reuter_robust_2010] into the anatomical reference of the workflow"
            + (", in the space of the first of them." if reference == "first-lex" else ".")
        )
    return Step("conform", "anatomical", text)


def bias_correction(version: str) -> Step:
    """N4 by SimpleITK of the given version."""
    return Step(
        "bias",
        "anatomical",
        "Intensity non-uniformity was corrected with N4 [@n4] as implemented in SimpleITK "
        f"{version} [@simpleitk].",
    )


def brain_mask(version: str, skull_stripped_input: bool = False) -> Step:
    """Brain extraction by deepbet of the given version, or the input's own."""
    if skull_stripped_input:
        text = (
            "The T1w image was found to be skull-stripped already; its non-zero voxels are the "
            "brain mask."
        )
    else:
        text = (
            "The brain was extracted with the convolutional network of *deepbet* "
            f"{version} [@deepbet]."
        )
    return Step("brain_mask", "anatomical", text)


_ENGINE_TEXTS = {
    "deepprep": "the embedded convolutional network of DeepPrep, a U-Net [@unet] trained on images "
    "synthesised from label maps [@synthseg] and, to a smaller part, on T1w images of open data sets; its "
    "posterior is the mean of those of the image and of its left-right mirror, in which about deep "
    "structures and cerebellum the average of the label maps, registered to the head, has a share of at most "
    "40 % [@multi_atlas]",
    "fastsurfer-vinn": "*FastSurferVINN* [@fastsurfer; @fastsurfervinn] with its official weights",
    "fastsurfer-v1": "*FastSurferCNN* [@fastsurfer] with its official weights",
}


def whole_brain_segmentation(engine: str) -> Step:
    """The network that labelled the brain's structures, by the name of its engine."""
    return Step(
        "segmentation",
        "anatomical",
        "Brain structures were labelled in FreeSurfer's numbering by "
        f"{_ENGINE_TEXTS.get(engine, engine)}. The brain mask is that of the segmentation.",
    )


def tissue_segmentation() -> Step:
    """Partial volume from posteriors and local intensities."""
    return Step(
        "tissue",
        "anatomical",
        "Fractions of cerebrospinal fluid (CSF), white matter (WM) and grey matter (GM) were "
        "computed in every voxel from the posteriors of the segmentation and a partial-volume "
        "model of the intensities [@santago_pve], relative to the local means of the tissues; deep "
        "grey nuclei and the brain stem keep the posteriors of the segmentation.",
    )


def surfaces() -> Step:
    """White and pial surfaces and what is measured on them."""
    return Step(
        "surfaces",
        "anatomical",
        "Cortical surfaces were reconstructed after the manner of *FastCSR* [@fastcsr]: a level set "
        "of the white matter of each hemisphere was given the topology of a sphere "
        "[@bazin_topology] and meshed (where the labels of hippocampus or amygdala touch cortex, a "
        "sheet of white matter was laid between them first), and its vertices were moved to the local half height between "
        "white and grey matter (white surface), then outwards to that between grey matter and the "
        "fluid beside it (pial surface). Cortical thickness is the mean of the distances from each surface "
        "to the other [@fischl_thickness].",
    )


def spheres(engine: str = "refine") -> Step:
    """Spheres, their registration to fsaverage (``refine`` or ``sugar``), and fsLR from it."""
    how = {
        "refine": "by its sulcal depth, curvature and nearness to hippocampus and amygdala, minimising "
        "the terms that *SUGAR* [@sugar] is trained with, from coarse to fine",
        "sugar": "by its sulcal depth with the published networks of *SUGAR* [@sugar]",
    }[engine]
    return Step(
        "spheres",
        "anatomical",
        f"Each hemisphere was laid on a sphere [@praun_hoppe] and registered to fsaverage {how}. "
        "Surfaces and maps were carried on to fsLR (32k vertices) over the "
        "correspondence of both group spheres, maps by adaptive barycentric resampling "
        "[@hcppipelines].",
    )


def parcels(annotations: Sequence[str]) -> Step:
    """Parcellations of the cortex, by the names of their files."""
    papers = {"aparc": "desikan", "aparc.a2009s": "destrieux", "HCP-MMP1": "glasser_mmp"}
    named = [f"{name} [@{papers.get(name, 'schaefer')}]" for name in annotations]
    return Step(
        "parcels",
        "anatomical",
        f"The cortex was divided into the parcels of {', '.join(named)}, carried over from "
        "fsaverage by a registration of broad folding, adapted to the folding of the participant; "
        "each hemisphere was measured on its own surfaces.",
    )


def surface_sampling(spaces: Sequence[str]) -> Step:
    """BOLD series on the surfaces of the participant and of group spaces."""
    return Step(
        "surface_sampling",
        "functional",
        "The BOLD time series were sampled on the cortical surface: at six depths between white and "
        "pial surface, whose mean was taken, each interpolated once from the original frames with "
        "head motion and coregistration composed. Series in "
        f"{', '.join(spaces)} were written; group spaces by adaptive barycentric resampling "
        "[@hcppipelines].",
    )


def given_surfaces() -> Step:
    """Surfaces of a finished subject."""
    return Step(
        "surfaces",
        "anatomical",
        "Cortical surfaces were those of an existing reconstruction, whose image was compared with "
        "the T1w and, where their headers placed them differently, registered to it rigidly.",
    )


def structure_volumes() -> Step:
    """Volumes of structures, intracranial volume, and FreeSurfer's conformed volumes."""
    return Step(
        "volumes",
        "anatomical",
        "Volumes of brain structures were taken from the segmentation, and the total intracranial "
        "volume was estimated from the determinant of the affine registration to the MNI head "
        "[@etiv]. Intensities were scaled to a white-matter level of 110 for the volumes in "
        "FreeSurfer's conformed space.",
    )


_TEMPLATE_PAPERS = {
    "MNI152NLin2009cAsym": "*ICBM 152 Nonlinear Asymmetrical template version 2009c* "
    "[@mni152nlin2009casym; TemplateFlow ID: MNI152NLin2009cAsym]",
    "MNI152NLin6Asym": "*FSL's MNI ICBM 152 non-linear 6th Generation Asymmetric Average Brain "
    "Stereotaxic Registration Model* [@mni152nlin6asym; TemplateFlow ID: MNI152NLin6Asym]",
}


def lesion(volume_ml: float) -> Step:
    """Lesion mask left out of the normalisation."""
    return Step(
        "lesion",
        "anatomical",
        f"A lesion mask of {volume_ml:.1f} ml was given. The lesion, and what lies within 2 mm of "
        "it, was left out of the cost of the registrations to standard space (cost-function "
        "masking [@brett_lesions]) and out of the brain structures that drive them; the "
        "deformation there is carried across from around it.",
    )


def lesion_filled(how: str, mirrored_share: float) -> Step:
    """Lesion filled before segmentation, surfaces and normalisation; ``how`` as the option has it."""
    text = {
        "mirror": "was filled with the tissue at the same place of the other hemisphere, from the "
        "T1w registered to its own mirror image (enantiomorphic filling [@nachev_lesions])"
        + (
            f"; {100 * (1 - mirrored_share):.0f} % of it, which faces no healthy brain there, with "
            "the local level and the noise of white matter"
            if mirrored_share < 0.995
            else ""
        ),
        "white": "was filled with the local level and the noise of white matter [@sdika_lesions]",
    }[how]
    return Step(
        "lesion_filled",
        "anatomical",
        f"For segmentation, surfaces and normalisation the lesion {text}. What they say of the "
        "inside of the lesion is that of the filled tissue.",
    )


_AFFINE_TEXT = "by an affine registration that maximised mutual information [@nmi], followed by "
_NETWORK_TEXTS = {
    "official": "by the affine and the diffeomorphic network of *SynthMorph* [@synthmorph; "
    "@synthmorph_joint] with their official weights",
    "own": _AFFINE_TEXT + "a compact network of *DeepPrep*'s own, trained as *SynthMorph* is "
    "[@synthmorph] on pairs of synthetic images, that predicts a stationary velocity field [@dartel]",
}
_NORMALISATION_TEXTS = {
    "refine": _AFFINE_TEXT + "a diffeomorphic one: a stationary velocity field [@dartel], "
    "exponentiated by scaling and squaring [@log_euclidean], maximised {what} of the "
    "brain-extracted images from coarse to fine resolution.",
    "synthmorph": "{network}.",
    "synthmorph+refine": "{network}. The velocity field was then refined: exponentiated by scaling "
    "and squaring [@log_euclidean], it maximised {what} of the brain-extracted images.",
}


def normalisation(
    spaces: Sequence[str],
    engine: str = "refine",
    with_labels: bool = False,
    network: str | None = None,
) -> Step:
    """Affine and diffeomorphic registration to standard spaces, by the engine's name.

    ``network`` says whose: ``official`` (SynthMorph's) or ``own``.
    """
    known = [_TEMPLATE_PAPERS.get(s, f"*{s}* [TemplateFlow ID: {s}]") for s in spaces]
    what = "the local cross-correlation [@syn]"
    if with_labels:
        what += ", and the overlap of the brain structures with those of the template,"
    noun = "standard space" if len(spaces) == 1 else f"{len(spaces)} standard spaces"
    how = _NORMALISATION_TEXTS.get(engine, f"by {engine}.")
    how = how.format(what=what, network=_NETWORK_TEXTS.get(network or "official", ""))
    return Step(
        "normalisation",
        "anatomical",
        f"The T1w reference was normalised to {noun} {how} "
        f"The templates, from TemplateFlow [@templateflow], were: {_join(known)}.",
    )


def fieldmap_found(chosen: str, applied: bool = False) -> Step:
    """Field map found; whether it was used."""
    text = f"A B0 field map was found ({chosen})."
    if not applied:
        text += " It was not applied: susceptibility distortions are NOT corrected in these data."
    return Step("fieldmap", "fieldmap", text)


def bold_reference(n_dummy: int = 0) -> Step:
    """Reference volume of a run."""
    text = (
        "A reference volume was made as the robust average of the frames with the least head "
        "movement, after rigid realignment."
    )
    if n_dummy:
        frames = "frame was" if n_dummy == 1 else f"{n_dummy} frames were"
        text += f" The first {frames} marked as not in steady state and not used for it."
    return Step("bold_reference", "functional", text)


def head_motion() -> Step:
    """Rigid realignment by Gauss-Newton."""
    return Step(
        "head_motion",
        "functional",
        "Head motion with respect to the reference (six rotation and translation parameters a "
        "frame) was estimated before any temporal filtering by least-squares rigid registration "
        "with Gauss-Newton optimisation [@friston_realign; @jiang_motion].",
    )


def slice_timing(reference_s: float, first_s: float, last_s: float) -> Step:
    """Slice-timing correction to a time within the TR."""
    return Step(
        "slice_timing",
        "functional",
        f"Slices, acquired between {first_s:.3g} s and {last_s:.3g} s of each repetition, were "
        f"interpolated in time to {reference_s:.3g} s [@sladky_slicetiming].",
    )


def slice_timing_skipped(reason: str) -> Step:
    """Slice timing not corrected, and why."""
    return Step("slice_timing", "functional", f"Slice timing was not corrected: {reason}.")


def coregistration(method: Literal["bbr", "nmi"]) -> Step:
    """Rigid BOLD-to-T1w registration."""
    text = (
        "The reference was co-registered to the T1w reference with six degrees of freedom by "
        "multi-resolution maximisation of normalised mutual information [@nmi]"
    )
    if method == "bbr":
        text += ", refined by boundary-based registration on the white-matter border [@bbr]."
    else:
        text += "; the boundary-based refinement [@bbr] was tried and rejected."
    return Step("coregistration", "functional", text)


def resampling(spaces: Sequence[str]) -> Step:
    """One-shot resampling of the series onto lattices of the participant."""
    return Step(
        "resampling",
        "functional",
        f"The series were resampled onto {_join([f'*{s}*' for s in spaces])}, each with a single "
        "interpolation by cubic B-splines [@interpolation_revisited] that composes head motion "
        "and co-registration.",
    )


def standard_resampling(space: str) -> Step:
    """One-shot resampling of the series onto a template."""
    return Step(
        "standard_resampling",
        "functional",
        f"The series were also resampled onto *{space}*, where the single interpolation includes "
        "the normalisation.",
    )


def confounds(fd_threshold_mm: float = 0.5, dvars_threshold: float = 1.5) -> Step:
    """The confounds table."""
    return Step(
        "confounds",
        "functional",
        "Confounding time series were computed from the *preprocessed BOLD*: framewise "
        "displacement (FD; absolute sum of relative motion [@power_fd_dvars], and relative root "
        "mean square displacement [@mcflirt]), DVARS [@power_fd_dvars], and the mean signals of "
        "the CSF, the WM and the whole brain. Principal components for component-based noise "
        "correction (CompCor [@compcor]) were taken, after high-pass filtering with a "
        "128 s cut-off by discrete cosines, from the most variable voxels (tCompCor) and from "
        "CSF, WM and combined masks clear of grey matter (aCompCor [@acompcor_muschelli]); the components that "
        "explain 50 % of the variance of their mask were kept. The motion parameters and global "
        "signals were expanded with derivatives and squares [@confounds_satterthwaite_2013]. "
        f"Frames with FD above {fd_threshold_mm:g} mm or standardised DVARS above "
        f"{dvars_threshold:g} were annotated as motion outliers.",
    )


def _join(items: Sequence[str]) -> str:
    if len(items) < 2:
        return "".join(items)
    return ", ".join(items[:-1]) + " and " + items[-1]
