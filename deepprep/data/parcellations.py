"""Names of the parcellations in the package."""

from __future__ import annotations

from collections.abc import Mapping

ANNOTATIONS: Mapping[str, str] = {
    "aparc": "aparc",
    "a2009s": "aparc.a2009s",
    "schaefer100": "Schaefer2018_100Parcels_17Networks_order",
    "schaefer200": "Schaefer2018_200Parcels_17Networks_order",
    "schaefer400": "Schaefer2018_400Parcels_17Networks_order",
    "schaefer600": "Schaefer2018_600Parcels_17Networks_order",
    "hcp-mmp": "HCP-MMP1",
}
"""Parcellations of ``--surface-parcellation`` -> name of FreeSurfer's files (``lh.NAME.annot``)."""

PARCELLATIONS = tuple(ANNOTATIONS)
