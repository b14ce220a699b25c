"""The command line: fMRIPrep's flags, with DeepPrep's and the seed's names as aliases."""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from deepprep._version import __version__
from deepprep.cli.options import (
    CSR_ENGINES,
    FALLBACKS,
    FIXED,
    IGNORABLE,
    LESION_FILLINGS,
    NO_EFFECT,
    NORM_ENGINES,
    REFERENCES,
    REFUSED,
    SEG_ENGINES,
    SKULL_STRIP,
    SPHERE_ENGINES,
    SURF_RECON,
)
from deepprep.data.parcellations import BUNDLED, FROM_FOLDER
from deepprep.errors import InputError, NotAvailableError

SHORT_HELP = f"""\
DeepPrep {__version__}: brain MRI preprocessing (T1w and BOLD fMRI)

  deepprep BIDS_DIR OUT_DIR participant [options]   preprocess a BIDS data set
  deepprep BIDS_DIR OUT_DIR group                   one table of the motion of all runs
  deepprep phantom OUT_DIR [--t1w FILE]             make a data set with known truth
  deepprep phantom-score PHANTOM_DIR OUT_DIR        compare derivatives with that truth
  deepprep models {{list,fetch,verify}} [NAME]        official weights of segmentation networks

Useful: --participant-label 01 02   --output-spaces MNI152NLin2009cAsym:res-2 T1w
        --anat-only   --nprocs 8   --dry-run (print the plan, compute nothing)
All options: deepprep --help"""


FOLDERS_HELP = """root of the BIDS data set (alias --bids DIR), root of the derivatives
(alias --output DIR), and what to do (default participant)"""

LEVELS = ("participant", "group")


class _Parser(argparse.ArgumentParser):
    """Errors become one sentence of ours instead of a usage dump and an exit."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}; see deepprep --help.")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the main command; flags that were not given leave no attribute."""
    parser = _Parser(
        prog="deepprep",
        usage="deepprep BIDS_DIR OUT_DIR {participant,group} [options]",
        description="Brain MRI preprocessing: T1w and BOLD fMRI, a BIDS App.",
        epilog="Other verbs: deepprep phantom, phantom-score, models (see deepprep VERB --help). "
        "Underscores in flags are read as hyphens.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("folders", nargs="*", metavar="BIDS_DIR OUT_DIR {participant,group}", help=FOLDERS_HELP)
    add("--bids", dest="bids_dir_alias", metavar="DIR", help=argparse.SUPPRESS)
    add("--output", dest="out_dir_alias", metavar="DIR", help=argparse.SUPPRESS)
    add("--version", action="version", version=f"DeepPrep {__version__}")
    add("-v", "--verbose", action="count", help="more messages (-vv: debugging)")
    _selection(parser)
    _workflow(parser)
    _execution(parser)
    _accepted_only(parser)
    return parser


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """Parse the main command; only what was given is in the result.

    Raises
    ------
    InputError
        An unknown flag (the closest known one is named), a wrong value, a missing one.
    NotAvailableError
        A known flag that cannot be honoured.
    """
    argv = normalise(argv)
    for token in argv:
        flag = token.partition("=")[0]
        if flag in REFUSED:
            raise NotAvailableError(f"{flag} {REFUSED[flag]}.")
    parser = build_parser()
    # "Intermixed" lets options stand between the three words.
    namespace, unknown = parser.parse_known_intermixed_args(list(argv))
    if unknown:
        raise InputError(_unknown_sentence(unknown[0], parser))
    given = vars(namespace)
    given.update(_words(given.pop("folders", None) or [], given))
    for flag, values in FIXED.items():
        value = given.pop(_dest(flag), None)
        if value is not None and value not in values:
            allowed = " or ".join(v for v in values[:1])
            raise NotAvailableError(
                f"{flag} {value} is not available yet in this version: only {allowed} is."
            )
    for flag in NO_EFFECT:
        given.pop(_dest(flag), None)
    return given


def _words(words: Sequence[str], given: dict[str, Any]) -> dict[str, str]:
    """``BIDS_DIR OUT_DIR LEVEL``; folders given by flag or in a configuration file may be left
    out, so the last word is a level when it reads like one."""
    words = list(words)
    result: dict[str, str] = {}
    by_flag = "bids_dir_alias" in given or "config_file" in given
    if words and (len(words) == 3 or (by_flag and words[-1] in LEVELS)):
        result["analysis_level"] = words.pop()
        if result["analysis_level"] not in LEVELS:
            raise InputError(
                f"'{result['analysis_level']}' is not an analysis level: write participant or group."
            )
    if len(words) > 2:
        raise InputError(
            f"'{words[2]}' is one argument too many: write deepprep BIDS_DIR OUT_DIR participant."
        )
    result.update(zip(("bids_dir", "out_dir"), words, strict=False))
    return result


def normalise(argv: Sequence[str]) -> list[str]:
    """Flags with underscores as flags with hyphens; values stay as they are."""
    result = []
    for token in argv:
        flag, equals, value = token.partition("=")
        if re.match(r"^--[A-Za-z]", flag):
            token = flag.replace("_", "-") + equals + value
        result.append(token)
    return result


def _selection(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("What is processed").add_argument
    add(
        "--participant-label",
        nargs="+",
        metavar="LABEL",
        help="participants, with or without sub- (all by default; 'all' also means all)",
    )
    add("--session-label", nargs="+", metavar="LABEL", help="sessions, with or without ses-")
    add(
        "-t",
        "--task-id",
        "--bold-task-type",
        nargs="+",
        metavar="TASK",
        help="BOLD tasks, with or without task-",
    )
    add("--bids-filter-file", metavar="FILE", help="JSON of pybids queries by kind of image")
    add("--bids-database-dir", metavar="DIR", help="keep and reuse the pybids index there")
    add(
        "--skip-bids-validation",
        action="store_true",
        help="do not run bids-validator-deno (damaged images are always looked for)",
    )
    add("--anat-only", action="store_true", help="T1w only (alias --workflow smri)")
    add("--workflow", choices=["smri", "all"], help=argparse.SUPPRESS)


def _workflow(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("How it is processed").add_argument
    add(
        "--output-spaces",
        nargs="*",
        metavar="SPACE",
        help="such as MNI152NLin2009cAsym:res-2 T1w func fsnative fsaverage5 fsLR; res-native is the BOLD "
        "run's voxel size (default MNI152NLin2009cAsym:res-native; aliases --mni-template, "
        "--bold-volume-space with --bold-volume-res)",
    )
    add("--mni-template", metavar="NAME", help=argparse.SUPPRESS)
    add("--bold-volume-space", metavar="NAME", help=argparse.SUPPRESS)
    add("--bold-volume-res", metavar="RES", help=argparse.SUPPRESS)
    add("--ignore", nargs="+", choices=IGNORABLE, metavar="STEP", help=", ".join(IGNORABLE))
    add("--bold-sdc", choices=["True", "False"], help=argparse.SUPPRESS)
    add(
        "--dummy-scans",
        "--bold-skip-frame",
        type=int,
        metavar="N",
        help="non-steady-state frames at the start (found automatically; alias --bold-skip-frame)",
    )
    add("--slice-time-ref", metavar="REF", help="start, middle, end or 0 to 1 (default 0.5)")
    add(
        "--fd-spike-threshold",
        "--fd-threshold",
        type=float,
        metavar="MM",
        help="framewise displacement of a motion outlier (default 0.5; alias --fd-threshold)",
    )
    add(
        "--dvars-spike-threshold",
        type=float,
        metavar="X",
        help="standardised DVARS of a motion outlier (default 1.5)",
    )
    add(
        "--seg-engine",
        choices=SEG_ENGINES,
        help="whole-brain segmentation: auto (official FastSurfer weights when they are in the "
        "models folder, else the embedded network; default), " + ", ".join(SEG_ENGINES[1:]),
    )
    add(
        "--seg-threshold",
        type=float,
        metavar="P",
        help="posterior from which a voxel is called brain structure (default 0.5)",
    )
    add(
        "--models-dir",
        metavar="DIR",
        help="folder of official weights (default $DEEPPREP_MODELS_DIR, then the user's cache; "
        "see deepprep models)",
    )
    add(
        "--norm-engine",
        choices=NORM_ENGINES,
        help="normalisation: refine (by optimisation; auto takes it), synthmorph (a network alone: "
        "official weights when they are in the models folder, else ours) or synthmorph+refine",
    )
    add(
        "--surf-recon",
        nargs="?",
        const="on",
        choices=SURF_RECON,
        help="reconstruct the cortical surfaces (default on; alias of off: --fs-no-reconall)",
    )
    add("--fs-no-reconall", action="store_true", help=argparse.SUPPRESS)
    add(
        "--fs-subjects-dir",
        metavar="DIR",
        help="folder of finished FreeSurfer, FastSurfer or DeepPrep subjects (sub-01, ...): their "
        "surfaces are used instead of computing them",
    )
    add(
        "--csr-engine",
        choices=CSR_ENGINES,
        help="first surface of the white matter: auto (the segmentation; default), segmentation "
        "(labels and intensities), fastcsr (official FastCSR weights in the models folder), "
        "compact (own network, when its weights are installed)",
    )
    add(
        "--surf-recon-fallback",
        choices=FALLBACKS,
        help="when a hemisphere fails its checks: volume (go on with volumes and say so; "
        "default) or none (no functional outputs either)",
    )
    add(
        "--sphere-engine",
        choices=SPHERE_ENGINES,
        help="registration of hemispheres to fsaverage: refine (the folding of the participant is "
        "fitted to the average; what auto takes, default) or sugar (official SUGAR weights in the "
        "models folder)",
    )
    add(
        "--surface-parcellation",
        nargs="+",
        metavar="NAME",
        help="parcellations beside aparc (always made): "
        + ", ".join([*BUNDLED][1:])
        + "; from annotations in the models folder: "
        + ", ".join(FROM_FOLDER),
    )
    add(
        "--medial-surface-nan",
        action="store_true",
        help="NaN on the medial wall of BOLD series on the surface",
    )
    add(
        "--skull-strip-t1w",
        choices=SKULL_STRIP,
        help="auto keeps a T1w that is already stripped (default; alias of skip: "
        "--skip-skullstrip)",
    )
    add("--skip-skullstrip", action="store_true", help=argparse.SUPPRESS)
    add(
        "--subject-anatomical-reference",
        choices=REFERENCES,
        help="with several T1w: unbiased average of all (default), or one for each session",
    )
    add(
        "--lesion-mask",
        metavar="FILE",
        help="lesion of the one participant, left out of the normalisation (masks in the data set, "
        "anat/*_label-lesion_roi.nii.gz, are found without it)",
    )
    add(
        "--lesion-fill",
        choices=LESION_FILLINGS,
        help="what segmentation, surfaces and normalisation see where a lesion is: itself (none, "
        "default), the tissue of the other hemisphere (mirror) or white matter (white)",
    )
    add("--random-seed", type=int, metavar="N", help="default 0")


def _execution(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("How it runs").add_argument
    add(
        "--nprocs",
        "--nthreads",
        "--n-cpus",
        "--cpus",
        type=int,
        metavar="N",
        help="CPU threads of all tasks together (default: all; aliases --nthreads --n-cpus --cpus)",
    )
    add(
        "--omp-nthreads",
        "--omp-cores",
        type=int,
        metavar="N",
        help="CPU threads of one task (alias --omp-cores)",
    )
    add(
        "--mem",
        "--mem-mb",
        metavar="SIZE",
        help="memory of all tasks together: 8G, 8000M, or a number of MB",
    )
    add("--memory", type=float, metavar="GB", help=argparse.SUPPRESS)
    add("--device", metavar="DEVICE", help="auto (default), cpu, cuda, cuda:N or mps")
    add("-w", "--work-dir", metavar="DIR", help="intermediate results (default ./work)")
    add("--clean-workdir", action="store_true", help="empty the work folder first")
    add("--stop-on-first-crash", action="store_true", help="one failure stops everything")
    add("--config-file", metavar="FILE", help="options from a TOML file; the command line wins")
    add("--reports-only", action="store_true", help="rebuild reports of existing derivatives")
    add("--boilerplate-only", action="store_true", help="rewrite the methods text only")
    add(
        "--dry-run",
        "--plan",
        action="store_true",
        help="print what would be done and why, compute nothing (alias --plan)",
    )


def _accepted_only(parser: argparse.ArgumentParser) -> None:
    """Flags that are accepted because what they ask for happens anyway."""
    for flag in FIXED:
        parser.add_argument(flag, dest=_dest(flag), help=argparse.SUPPRESS)
    for flag in NO_EFFECT:
        parser.add_argument(flag, dest=_dest(flag), action="store_true", help=argparse.SUPPRESS)


def _dest(flag: str) -> str:
    return "accepted_" + flag.strip("-").replace("-", "_")


def _unknown_sentence(token: str, parser: argparse.ArgumentParser) -> str:
    flag = token.partition("=")[0]
    known = [o for action in parser._actions for o in action.option_strings]
    close = difflib.get_close_matches(flag, known, 1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"unknown option {flag}: {hint}see deepprep --help."
