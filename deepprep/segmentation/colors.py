"""Colours of brain structures, as in FreeSurferColorLUT.txt, and the look-up table of a dseg."""

from __future__ import annotations

from collections.abc import Mapping

from deepprep.segmentation.labels import LEFT_RIGHT, STRUCTURES

_ONE_SIDE: Mapping[int, tuple[int, int, int]] = {
    2: (245, 245, 245),
    3: (205, 62, 78),
    4: (120, 18, 134),
    5: (196, 58, 250),
    7: (220, 248, 164),
    8: (230, 148, 34),
    10: (0, 118, 14),
    11: (122, 186, 220),
    12: (236, 13, 176),
    13: (12, 48, 255),
    14: (204, 182, 142),
    15: (42, 204, 164),
    16: (119, 159, 176),
    17: (220, 216, 20),
    18: (103, 255, 255),
    24: (60, 60, 60),
    26: (255, 165, 0),
    28: (165, 42, 42),
    31: (0, 200, 200),
    77: (200, 70, 255),
    85: (234, 169, 30),
}
_UNLIKE_LEFT: Mapping[int, tuple[int, int, int]] = {
    41: (0, 225, 0),
    52: (13, 48, 255),
    63: (0, 200, 221),
}
"""Right structures that FreeSurfer colours differently; the others look like the left."""

COLORS: Mapping[int, tuple[int, int, int]] = dict(
    sorted(
        {
            0: (0, 0, 0),
            **_ONE_SIDE,
            **{right: _ONE_SIDE[left] for left, right in LEFT_RIGHT.items()},
            **_UNLIKE_LEFT,
        }.items()
    )
)
"""FreeSurfer number -> red, green, blue (0 to 255), for every structure and 0 (unknown)."""


def aparc_lookup_table() -> str:
    """Text of ``desc-aparcaseg_dseg.tsv``: structures, and the parcels of the cortex."""
    from deepprep.data.surface_atlases import parcellation
    from deepprep.surface.cortical_labels import FIRST_CORTEX

    rows = [lookup_table().rstrip("\n")]
    for hemi in ("lh", "rh"):
        found = parcellation("aparc", hemi)
        for row, (name, colour) in enumerate(zip(found.names, found.colours.tolist())):
            red, green, blue = colour[:3]
            index = FIRST_CORTEX["aparc"][hemi] + row
            rows.append(f"{index}\tctx-{hemi}-{name}\t#{red:02x}{green:02x}{blue:02x}")
    return "\n".join(rows) + "\n"


def lookup_table() -> str:
    """Text of ``desc-aseg_dseg.tsv``: index, name and color (``#rrggbb``) of each structure."""
    rows = ["index\tname\tcolor"]
    for index, (red, green, blue) in COLORS.items():
        name = STRUCTURES.get(index, "Unknown")
        rows.append(f"{index}\t{name}\t#{red:02x}{green:02x}{blue:02x}")
    return "\n".join(rows) + "\n"
