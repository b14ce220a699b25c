"""Unbiased average of several scans of one head (Reuter, Rosas & Fischl 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.linalg import expm, logm

from deepprep.errors import InputError
from deepprep.image.resample import resample, resample_image
from deepprep.image.volume import Volume
from deepprep.registration.linear import fit_linear
from deepprep.registration.pyramid import centroid_ras, clean
from deepprep.registration.transforms import Affine

ROUNDS = 3
"""Times the average is made and every scan registered to it again."""

CONVERGED_MM = 0.03
"""Rounds end when no scan moves further than this at 60 mm from the centre."""

LEVER_MM = 60.0
"""Distance from the centre at which motion is judged."""


def robust_average(
    volumes: Sequence[Volume], *, in_space_of: int | None = None, device: str = "cpu"
) -> tuple[Volume, list[Affine]]:
    """Average scans of one head, by default in the space halfway between them.

    Every scan is registered rigidly to the median of all, which is moved so that the mean of
    the maps is the identity: no scan is special and all are interpolated alike, once. In the
    space of one scan, that scan is not interpolated at all, and the others once.

    Parameters
    ----------
    volumes : sequence of Volume
        (X, Y, Z) scans of the same contrast.
    in_space_of : int, optional
        Index of the scan in whose space the average is made, from the same maps.
    device : str
        Unused: compiled CPU code takes some seconds. Kept so that all engines are called alike.

    Returns
    -------
    average : Volume
        Voxelwise median (mean for two), float32, on a lattice with the shape and voxel size of
        the first scan (of ``in_space_of``, if given). A single scan is returned as it is.
    to_inputs : list of Affine
        For each scan, average RAS mm -> that scan's RAS mm. The scans' intensities are scaled
        to a common median first.

    Raises
    ------
    InputError
        There is no scan, or one is empty.
    """
    if not volumes:
        raise InputError("There is no image to average.")
    scans = [clean(v, None, f"scan {n + 1}") for n, v in enumerate(volumes)]
    if len(scans) == 1:
        return scans[0], [Affine.identity()]
    scans = _same_scale(scans)
    centre = centroid_ras(scans[0])
    maps = [Affine.identity()]
    for scan in scans[1:]:
        maps.append(_register(scans[0], scan, "centre", (4.0, 2.0)))
    maps = _recentre(maps, centre)
    for _ in range(ROUNDS):
        template = _combine(scans, maps, scans[0])
        finer = [_register(template, s, m, (2.0, 1.0)) for s, m in zip(scans, maps)]
        finer = _recentre(finer, centre)
        moved = max(_distance(a, b, centre) for a, b in zip(finer, maps))
        maps = finer
        if moved < CONVERGED_MM:
            break
    like = scans[0]
    if in_space_of is not None:
        like = scans[in_space_of]
        to_average = maps[in_space_of].inverse()
        maps = [
            Affine.identity() if n == in_space_of else m @ to_average for n, m in enumerate(maps)
        ]
    return _combine(scans, maps, like, sharp=True), maps


def _register(
    fixed: Volume,
    moving: Volume,
    init: Literal["centre"] | Affine,
    spacings: tuple[float, ...],
) -> Affine:
    return fit_linear(
        fixed, moving, fixed_mask=None, moving_mask=None, init=init, metric="ncc", dof=6,
        spacings_mm=spacings,
    ).affine  # fmt: skip


def _recentre(maps: list[Affine], centre: np.ndarray) -> list[Affine]:
    """Move the common space so that the mean of the maps' logarithms is zero."""
    there, back = np.eye(4), np.eye(4)
    there[:3, 3], back[:3, 3] = -centre, centre
    for _ in range(10):
        logs = [np.real(logm(there @ m.matrix @ back)) for m in maps]
        mean = np.mean(logs, axis=0)
        if np.abs(mean).max() < 1e-9:
            break
        shift = Affine(back @ expm(-mean) @ there)
        maps = [m @ shift for m in maps]
    return maps


def _combine(scans: list[Volume], maps: list[Affine], like: Volume, sharp: bool = False) -> Volume:
    pulled = [
        resample_image(s, like.grid, m) if sharp else resample(s, like.grid, m, "linear")
        for s, m in zip(scans, maps)
    ]
    return like.like(np.median([p.data for p in pulled], axis=0).astype(np.float32))


def _same_scale(scans: list[Volume]) -> list[Volume]:
    levels = [float(np.median(s.data[s.data > s.data.mean()])) for s in scans]
    common = float(np.mean(levels))
    return [s.like(s.data * np.float32(common / level)) for s, level in zip(scans, levels)]


def _distance(a: Affine, b: Affine, centre: np.ndarray) -> float:
    corners = centre + LEVER_MM * np.vstack([np.zeros(3), np.eye(3), -np.eye(3)])
    return float(np.linalg.norm(a.map_points(corners) - b.map_points(corners), axis=1).max())
