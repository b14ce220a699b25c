"""What belongs to the vertices of a hemisphere, on the mesh of a group space."""

from __future__ import annotations

import numpy as np

from deepprep.bids.spaces import OutputSpace
from deepprep.data.surface_atlases import group_sphere
from deepprep.interfaces.hemisphere_files import HEMISPHERES
from deepprep.interfaces.sphere_files import HemisphereSpheres
from deepprep.surface.group_spaces import metric_on_group, surface_on_group
from deepprep.surface.mesh import Mesh
from deepprep.surface.reconstruct import Hemisphere


class OnGroup:
    """Carries surfaces and maps of one hemisphere to the mesh of one group space.

    Parameters
    ----------
    space : OutputSpace
        ``fsaverage...`` or ``fsLR``.
    side : {'L', 'R'}
    hemisphere : Hemisphere
    spheres : HemisphereSpheres
        Of the hemisphere.
    """

    def __init__(
        self, space: OutputSpace, side: str, hemisphere: Hemisphere, spheres: HemisphereSpheres
    ) -> None:
        self.hemisphere = hemisphere
        self.registered = spheres.fslr if space.name == "fsLR" else spheres.fsaverage
        self.target = group_sphere(space.name, space.den, HEMISPHERES[side])

    def surface(self, kind: str) -> Mesh:
        """A surface of the hemisphere, such as ``white``, with the triangles of the group."""
        return surface_on_group(getattr(self.hemisphere, kind), self.registered, self.target)

    def maps(self, values: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Values per vertex, (V, T), at the vertices of the group, (W, T).

        NaN where none of ``mask`` takes part.
        """
        return metric_on_group(
            values,
            self.registered,
            self.target,
            self.hemisphere.midthickness.vertex_areas,
            self.surface("midthickness").vertex_areas,
            mask,
        )
