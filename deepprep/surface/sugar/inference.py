"""A hemisphere registered with SUGAR's published networks: one rotation, then level after level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from deepprep.surface.barycentric import locate
from deepprep.surface.mesh import Mesh
from deepprep.surface.sphere_engines import LEVELS, RIGID
from deepprep.surface.spherical_registration import (
    FoldingTarget,
    SphericalRegistration,
    midpoints,
    standardised,
    unit_length,
)
from deepprep.surface.sugar.checkpoint import load_into
from deepprep.surface.sugar.network import SugarNet, rotate_by_euler
from deepprep.surface.unfold import reach

SOFT_LIMIT_SD = 3.0
"""Features beyond so many standard deviations are drawn in exponentially, as in training."""


def load_networks(files: Mapping[str, Path], spheres: Sequence[Mesh]) -> dict[str, SugarNet]:
    """Networks of the files that :func:`deepprep.surface.sphere_engines.weight_names` names.

    Parameters
    ----------
    files : mapping of {'rigid', '3', ... '6'} to path
    spheres : sequence of Mesh
        Regular spheres of levels 0 to 6.

    Raises
    ------
    DeepPrepError
        Where a file is not SUGAR's or belongs to another level.
    """
    networks = {}
    for name, path in files.items():
        level = LEVELS[-1] if name == RIGID else int(name)
        network = SugarNet(level, list(spheres), rigid=name == RIGID).eval()
        load_into(network, path)
        networks[name] = network
    return networks


@torch.no_grad()
def register_with_sugar(
    sphere: Mesh,
    sulc: np.ndarray,
    target: FoldingTarget,
    networks: Mapping[str, SugarNet],
    device: str = "cpu",
) -> SphericalRegistration:
    """Register a sphere to a target as the published pipeline does.

    Parameters
    ----------
    sphere : Mesh
        Sphere of the subject without folds, 100 mm about the origin.
    sulc : (V,) array
        Sulcal depth, positive in sulci.
    target : FoldingTarget
    networks : mapping of {'rigid', '3', ... '6'} to SugarNet
    device : str
        Torch device.

    Raises
    ------
    ValueError
        Where the features do not fit the sphere, or its folds cannot be removed.
    """
    unit = sphere.vertices / np.linalg.norm(sphere.vertices, axis=1, keepdims=True)
    feature = standardised(sulc, sphere)
    template = locate(target.sphere, target.levels[6].vertices).interpolate(
        standardised(target.sulc, target.sphere)
    )
    fixed = network_feature(template)

    def angles(name: str, moving: np.ndarray, level: int) -> np.ndarray:
        network = networks[name].to(device)
        n = target.levels[level].n_vertices
        pair = [torch.from_numpy(f[:n]).float().to(device) for f in (moving, fixed)]
        return network(*pair).double().cpu().numpy()

    grid = target.levels[6]
    moving = network_feature(locate(sphere.moved(unit), grid.vertices).interpolate(feature))
    turn = angles(RIGID, moving, 6)
    turned = sphere.moved(_rotated(np.repeat(turn, len(unit), axis=0), unit))
    rotation = _rotated(np.repeat(turn, 3, axis=0), np.eye(3)).T
    on_grid = locate(turned, grid.vertices).interpolate(feature)
    moved = _cascade(network_feature(on_grid), target.levels, angles)

    goal = unit_length(locate(grid, turned.vertices).interpolate(moved))
    registered, held = reach(turned, [goal])
    warped = locate(registered, grid.vertices).interpolate(feature)
    radius = float(np.linalg.norm(sphere.vertices, axis=1).mean())
    found = sphere.moved(radius * registered.vertices)
    return SphericalRegistration(
        found,
        rotation,
        float(np.corrcoef(on_grid, template)[0, 1]),
        float(np.corrcoef(warped, template)[0, 1]),
        held,
        parcel_sphere=found,
    )


def network_feature(values: np.ndarray) -> np.ndarray:
    """Values of mean 0 and standard deviation 1, soft-clipped: 3 + 1 - exp(3 - x) beyond 3."""
    scaled = (values - values.mean()) / values.std()
    size = np.abs(scaled)
    beyond = np.sign(scaled) * (SOFT_LIMIT_SD + 1 - np.exp(SOFT_LIMIT_SD - size))
    return np.where(size > SOFT_LIMIT_SD, beyond, scaled)


def _cascade(moving: np.ndarray, levels: Mapping[int, Mesh], angles) -> np.ndarray:  # type: ignore[no-untyped-def]
    """(V, 3) unit vectors: where the vertices of the level 6 grid of the subject go."""
    moved = unit_length(levels[LEVELS[0]].vertices)
    for level in LEVELS:
        grid = levels[level]
        if level > LEVELS[0]:
            moved = midpoints(moved, grid)
        carried = grid.moved(moved)
        # The interpolated mesh may have small folds; nearest triangles serve as well there.
        here = network_feature(locate(carried, grid.vertices).interpolate(moving[: len(moved)]))
        predicted = angles(str(level), here, level)
        moved = _rotated(locate(grid, moved).interpolate(predicted), moved)
    return moved


def _rotated(angles: np.ndarray, points: np.ndarray) -> np.ndarray:
    turned = rotate_by_euler(torch.from_numpy(angles), torch.from_numpy(points))
    return turned.numpy()
