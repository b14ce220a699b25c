"""The task that takes surfaces of a finished subject instead of computing them."""

from __future__ import annotations

from pathlib import Path

from fileformats.generic import File
from pydra.compose import python

from deepprep.execution.resources import stage


@stage(cpus=1, mem_gb=3.0, title="Surfaces of --fs-subjects-dir")
@python.define(outputs=["left", "right", "left_info", "right_info"])
def ReadSurfaces(
    folder: str, stamps: list[str], t1w: File, mask: File, label: str
) -> tuple[File, File, File, File]:
    """Surfaces of a finished subject, once it is shown to be of this head.

    Parameters
    ----------
    folder : str
        FreeSurfer subject.
    stamps : list of str
        Hashes of its files that are used: other files are another input.
    t1w, mask : File
        Bias-corrected T1w and brain mask.
    label : str
        Subject, for messages.

    Returns
    -------
    left, right, left_info, right_info : File
        As of :func:`deepprep.interfaces.surfaces.ReconstructHemisphere`; the measures also say
        where the surfaces come from.
    """
    import numpy as np

    from deepprep.bids.subjects_dir import FLAG
    from deepprep.errors import StageError
    from deepprep.interfaces.files import keep_json
    from deepprep.interfaces.hemisphere_files import keep_hemisphere
    from deepprep.interfaces.nifti import load_volume
    from deepprep.interfaces.subject_folder import made_by, read_hemisphere
    from deepprep.registration.same_head import match_heads

    root = Path(folder)
    head = load_volume(str(t1w))
    try:
        orig = load_volume(str(root / "mri" / "orig.mgz"), None).frame(0)
    except (OSError, ValueError, EOFError) as err:
        raise StageError(
            f"{root.name}/mri/orig.mgz cannot be read ({err}); reconstruct the subject again, or "
            f"leave out {FLAG}."
        ) from err
    match = match_heads(head, load_volume(str(mask), np.uint8), orig)
    if not match.same:
        raise StageError(
            f"{FLAG} {root.name}: its orig.mgz does not show the head of the T1w of {label} "
            f"(correlation of brain structures {match.correlation:.2f}, "
            f"{match.by_header:.2f} as the headers place them); correct the name of the folder, "
            f"or leave out {FLAG} to have surfaces computed."
        )
    placed = (
        f"its orig.mgz lay up to {match.moved_mm:.1f} mm from the T1w and was registered to it"
        if match.moved_mm
        else "its orig.mgz lies where the T1w does"
    )
    source = (
        f"Surfaces of {root.name} in {FLAG}, made by {made_by(root)}, were used: {placed} "
        f"(correlation of brain structures {match.correlation:.2f})."
    )
    to_t1w = match.to_other.inverse()
    kept = []
    for side, letter in (("left", "L"), ("right", "R")):
        hemisphere = read_hemisphere(root, side, orig.grid, to_t1w, head)
        info = {
            **hemisphere.qc,
            "source": source,
            "head_correlation": match.correlation,
            "head_moved_mm": match.moved_mm,
        }
        kept.append(
            (
                keep_hemisphere(hemisphere, f"hemi-{letter}.npz"),
                keep_json(info, f"hemi-{letter}.json"),
            )
        )
    (left, left_info), (right, right_info) = kept
    return left, right, left_info, right_info
