"""The options of the command as data: aliases from other programs, and what is refused.

Underscores in a flag are read as hyphens, so DeepPrep's ``--participant_label`` needs no entry.
"""

from __future__ import annotations

NOT_YET = "is not available yet in this version"

REFUSED: dict[str, str] = {
    # fMRIPrep
    "--echo-idx": NOT_YET + " (multi-echo series)",
    "--derivatives": NOT_YET,
    "-d": NOT_YET + " (--derivatives)",
    "--low-mem": "is not needed: memory is bounded always; limit it with --mem",
    "--use-plugin": "does not exist here: tasks run on this machine; limit them with --nprocs",
    "--nipype-plugin-file": "does not exist here: limit tasks with --nprocs and --mem",
    "--sloppy": "does not exist here",
    "--force": NOT_YET,
    "--force-bbr": NOT_YET,
    "--force-no-bbr": NOT_YET,
    "--bold2anat-init": NOT_YET,
    "--bold2t1w-init": NOT_YET,
    "--fallback-total-readout-time": NOT_YET,
    "--me-t2s-fit-method": NOT_YET + " (multi-echo series)",
    "--me-output-echos": NOT_YET + " (multi-echo series)",
    "--project-goodvoxels": NOT_YET + " (surfaces)",
    "--cifti-output": NOT_YET + " (surfaces)",
    "--msm": NOT_YET + " (surfaces)",
    "--no-msm": NOT_YET + " (surfaces)",
    "--no-submm-recon": NOT_YET + " (surfaces)",
    "--fs-no-resume": NOT_YET + " (surfaces)",
    "--fs-license-file": "is not needed: no FreeSurfer is used, so leave it out",
    "--aggregate-session-reports": NOT_YET,
    "--track-sessions": NOT_YET,
    "--no-track-sessions": NOT_YET,
    "--longitudinal": "was replaced by --subject-anatomical-reference unbiased",
    "--md-only-boilerplate": NOT_YET,
    "--return-all-components": NOT_YET,
    "--skull-strip-template": "does not exist here: the brain mask comes from a network",
    "--skull-strip-fixed-seed": "is not needed: results do not depend on chance",
    "--fmap-bspline": NOT_YET,
    "--fmap-no-demean": NOT_YET,
    "--use-syn-sdc": NOT_YET,
    "--force-syn": NOT_YET,
    "--track-carbon": "does not exist here",
    "--country-code": "does not exist here",
    "--resource-monitor": "is not needed: peak memory is always in provenance.json",
    "--write-graph": NOT_YET,
    "--debug": NOT_YET,
    # DeepPrep
    "--bold-only": NOT_YET,
    "--bold-cifti": NOT_YET + " (surfaces)",
    "--bold-bandpass": NOT_YET + " (post-processing)",
    "--subjects-dir": NOT_YET + " (surfaces)",
    "--executor": NOT_YET,
    "--container": "does not exist here: run the container itself",
    "--deepprep-home": "does not exist here",
    "--mriqc": "does not exist here",
    "--preprocess-others": NOT_YET + " (surfaces)",
    "--fs-threads": "does not exist here: use --omp-nthreads",
    # The seed text
    "--clinical-mode": NOT_YET,
    "--pe-direction": "does not exist here: write PhaseEncodingDirection in the JSON sidecar",
    "--topup-config": "does not exist here: no TOPUP is used",
    "--max-concurrent": "does not exist here: limit tasks with --nprocs and --mem",
    "-profile": NOT_YET,
}
"""Known flags of fMRIPrep, DeepPrep and the seed text that cannot be honoured, and why."""

FIXED: dict[str, tuple[str, ...]] = {
    "--level": ("full",),
    "--output-layout": ("bids",),
    "--bold2anat-dof": ("6",),
    "--bold2t1w-dof": ("6",),
    "--bold-surface-spaces": ("None", "none", ""),
    "--bold-confounds": ("True", "true"),
}
"""Flags of which only these values can be honoured (each is what happens anyway)."""

NO_EFFECT = {
    "--notrack": "no telemetry is ever sent",
    "--resume": "finished work is always reused",
    "--ignore-error": "one failing participant never stops the others",
    "--framewise-displacement": "framewise displacement is always computed",
}
"""Flags that ask for what happens anyway."""

IGNORABLE = ("fieldmaps", "slicetiming", "sbref", "t2w", "flair", "fmap-jacobian")
"""Values of ``--ignore``."""

SKULL_STRIP = ("auto", "skip", "force")
"""Values of ``--skull-strip-t1w``."""

LESION_FILLINGS = ("none", "mirror", "white")
"""Values of ``--lesion-fill``."""

SEG_ENGINES = ("auto", "deepprep", "fastsurfer-vinn", "fastsurfer-v1")
"""Values of ``--seg-engine``."""

NORM_ENGINES = ("auto", "refine", "synthmorph", "synthmorph+refine")
"""Values of ``--norm-engine``."""

SPHERE_ENGINES = ("auto", "sugar", "refine")
"""Values of ``--sphere-engine``."""

CSR_ENGINES = ("auto", "fastcsr", "segmentation", "compact")
"""Values of ``--csr-engine``."""

SURF_RECON = ("on", "off")
"""Values of ``--surf-recon``."""

FALLBACKS = ("volume", "none")
"""Values of ``--surf-recon-fallback``."""

REFERENCES = ("first-lex", "unbiased", "sessionwise")
"""Values of ``--subject-anatomical-reference``."""
