"""Write a simulated phantom as a BIDS data set with its truth."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pandas as pd

from deepprep import __version__
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import save_volume
from deepprep.registration.itk import write_affine

if TYPE_CHECKING:
    from deepprep.phantom.simulate import Simulated

STEM = "sub-01_task-blocks"
T1W_AXES = ("P", "S", "R")
"""Voxel order of the T1w file: sagittal slices, as 3D MPRAGE comes."""

TRUTH_README = """\
Truth of the simulated data set. RAS+ mm everywhere; a matrix maps points.

t1w_to_bold.txt      (4, 4) point of the T1w image -> point of BOLD space, head at rest. The ITK
                     file beside it (from-boldref_to-T1w_mode-image_xfm.txt) is the same map.
frame_poses.npy      (T, 4, 4) point of BOLD space, head at rest -> point in frame t, at half of
                     its repetition time. What motion correction to a reference r estimates is
                     frame_poses[t] @ inverse(pose of r): the same convention as
                     from-orig_to-boldref desc-hmc transforms.
motion.tsv           the same poses as mm and rad about `centre_ras` of truth.json (turn about x,
                     then y, then z, then shift).
fieldmap_hz.nii.gz   B0 offset on the BOLD lattice, head at rest, undistorted. Signal of voxel j
                     along the phase axis appears at j + sign * Hz * TotalReadoutTime.
brain_mask.nii.gz    brain on the BOLD lattice, head at rest, undistorted.
desc-<condition>_activation.nii.gz  signal change in percent, in T1w space.
design.tsv           expected response of each condition, and the drift, at the middle of frames.
label-*_probseg.nii.gz, T1w_brain_mask.nii.gz  tissue maps that were used, in T1w space.
"""


def write_dataset(done: Simulated, out: Path, head_name: str, seed: int) -> Path:
    """Write all files.

    Parameters
    ----------
    done : Simulated
    out : Path
        Data set folder.
    head_name : str
        Whose head it is, for the description.
    seed : int
        Recorded in truth.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    _write_top(out, head_name)
    subject = out / "sub-01"
    _write_anat(done, subject)
    _write_func(done, subject)
    _write_fmap(done, subject)
    _write_truth(done, out / "sourcedata" / "truth", head_name, seed)
    return out


def _write_top(out: Path, head_name: str) -> None:
    _write_json(
        out / "dataset_description.json",
        {
            "Name": "DeepPrep phantom: a real head, a simulated BOLD run",
            "BIDSVersion": "1.9.0",
            "DatasetType": "raw",
            "License": "see the licence of the T1w image",
            "Authors": ["DeepPrep"],
            "GeneratedBy": [{"Name": "DeepPrep phantom", "Version": __version__}],
        },
    )
    (out / "README").write_text(
        f"Head: {head_name}. The BOLD run and the field map are simulated; the truth is in\n"
        "sourcedata/truth. Made by `deepprep phantom`.\n",
        encoding="utf-8",
    )
    _write_tsv(out / "participants.tsv", pd.DataFrame({"participant_id": ["sub-01"]}))


def _write_anat(done: Simulated, subject: Path) -> None:
    stem = subject / "anat" / "sub-01_T1w"
    save_volume(_reorder(done.t1w, T1W_AXES), f"{stem}.nii.gz")
    _write_json(
        Path(f"{stem}.json"),
        {"Modality": "MR", "MagneticFieldStrength": 1.5, "ConversionSoftware": "DeepPrep phantom"},
    )


def _write_func(done: Simulated, subject: Path) -> None:
    options = done.options
    stem = subject / "func" / STEM
    save_volume(done.bold, f"{stem}_bold.nii.gz", tr_s=options.tr_s)
    _write_json(
        Path(f"{stem}_bold.json"),
        {
            "TaskName": "blocks",
            "RepetitionTime": options.tr_s,
            "EchoTime": options.echo_time_s,
            "FlipAngle": 80,
            "MagneticFieldStrength": 3,
            "SliceTiming": options.slice_times_s().tolist(),
            "PhaseEncodingDirection": options.pe_direction,
            "EffectiveEchoSpacing": options.echo_spacing_s,
            "TotalReadoutTime": round(options.readout_s, 7),
            "B0FieldSource": "phasediff0",
        },
    )
    events = pd.DataFrame(
        [(e.onset_s, e.duration_s, e.condition) for e in done.events],
        columns=["onset", "duration", "trial_type"],
    )
    _write_tsv(Path(f"{stem}_events.tsv"), events)


def _write_fmap(done: Simulated, subject: Path) -> None:
    from deepprep.phantom.simulate import ECHO_TIMES_S

    stem = subject / "fmap" / "sub-01"
    shared = {
        "IntendedFor": [f"bids::sub-01/func/{STEM}_bold.nii.gz"],
        "B0FieldIdentifier": "phasediff0",
        "MagneticFieldStrength": 3,
    }
    for index, (volume, echo) in enumerate(zip(done.magnitudes, ECHO_TIMES_S, strict=True), 1):
        save_volume(volume, f"{stem}_magnitude{index}.nii.gz")
        _write_json(Path(f"{stem}_magnitude{index}.json"), {"EchoTime": echo, **shared})
    save_volume(done.phasediff, f"{stem}_phasediff.nii.gz")
    _write_json(
        Path(f"{stem}_phasediff.json"),
        {"EchoTime1": ECHO_TIMES_S[0], "EchoTime2": ECHO_TIMES_S[1], **shared},
    )


def _write_truth(done: Simulated, truth: Path, head_name: str, seed: int) -> None:
    truth.mkdir(parents=True, exist_ok=True)
    (truth / "README").write_text(TRUTH_README, encoding="utf-8")
    np.savetxt(truth / "t1w_to_bold.txt", done.t1w_to_bold)
    write_affine(truth / "from-boldref_to-T1w_mode-image_xfm.txt", done.t1w_to_bold)
    np.save(truth / "frame_poses.npy", done.frame_poses)
    names = ["trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z"]
    _write_tsv(truth / "motion.tsv", pd.DataFrame(done.motion_parameters, columns=names))
    save_volume(done.field_hz, truth / "fieldmap_hz.nii.gz")
    brain = done.brain.like((done.brain.data > 0.5).astype(np.uint8))
    save_volume(brain, truth / "brain_mask.nii.gz")
    for condition, volume in done.activations.items():
        percent = volume.like(volume.data * done.options.activation_percent / 100)
        save_volume(percent, truth / f"desc-{condition}_activation.nii.gz")
    _write_tsv(truth / "design.tsv", pd.DataFrame({**done.responses, "drift": done.drift}))
    for name, volume in done.tissues.items():
        file = "T1w_brain_mask" if name == "brain" else f"label-{name.upper()}_probseg"
        scaled = volume.like(np.rint(volume.data * (1 if name == "brain" else 100)))
        save_volume(scaled, truth / f"{file}.nii.gz", dtype=np.uint8)
    _write_json(
        truth / "truth.json",
        {
            "head": head_name,
            "seed": seed,
            "centre_ras": done.centre.tolist(),
            "task": "blocks",
            "conditions": sorted(done.responses),
            "options": dataclasses.asdict(done.options),
            "probseg_scale": 100,
        },
    )


def _reorder(volume: Volume, axes: tuple[str, str, str]) -> Volume:
    image = nib.Nifti1Image(volume.data, volume.affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(volume.affine), nib.orientations.axcodes2ornt(axes)
    )
    turned = image.as_reoriented(turn)
    return Volume(np.asanyarray(turned.dataobj), turned.affine)


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_tsv(path: Path, table: pd.DataFrame) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a", float_format="%.6f")
