"""Segment the bundled templates with the embedded network, for the overlap in normalisation.

    python training/templates/segment_templates.py [--only MNI152NLin6Asym]

Run again whenever the embedded network changes. Writes ``*_desc-aseg_dseg.nii.gz`` (uint8,
FreeSurfer's numbers) at 1 and 2 mm and, beside them, ``desc-aseg_dseg.json`` that names the network
by the SHA-256 of its weights.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json

import nibabel as nib
import numpy as np

from deepprep.data.templates import BUNDLED, bundled_templates, template_files
from deepprep.image.resample import resample
from deepprep.image.volume import Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.segmentation.engines import choose_engine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=sorted(bundled_templates()))
    for name in parser.parse_args().only:
        engine, weights, _ = choose_engine("deepprep")
        files = template_files(name, 1)
        assert files.t1w is not None and files.mask is not None
        head, mask = load_volume(files.t1w), load_volume(files.mask).data > 0.5
        found = engine.segment(head, mask, weights, device="cpu", threshold=0.5)
        labels = head.like(np.where(mask, found.labels, 0).astype(np.uint8))
        write(labels, name, "01")
        coarse = load_volume(template_files(name, 2).reference).grid
        write(resample(labels, coarse, None, "label"), name, "02")
        described = {
            "Description": "Brain structures of the template in FreeSurfer's numbering",
            "Engine": engine.name,
            "WeightsSHA256": [hashlib.sha256(w.read_bytes()).hexdigest() for w in weights],
            "Sources": [files.t1w.name, files.mask.name],
            "GeneratedBy": "training/templates/segment_templates.py",
        }
        path = BUNDLED / f"tpl-{name}" / f"tpl-{name}_desc-aseg_dseg.json"
        path.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        print(name, len(np.unique(labels.data)) - 1, "structures")


def write(labels: Volume, name: str, res: str) -> None:
    """The file at one resolution; the same labels give the same bytes."""
    image = nib.Nifti1Image(labels.data.astype(np.uint8), labels.affine)
    image.header.set_xyzt_units("mm")
    for code in ("sform", "qform"):
        getattr(image.header, f"set_{code}")(labels.affine, code=4)
    path = BUNDLED / f"tpl-{name}" / f"tpl-{name}_res-{res}_desc-aseg_dseg.nii.gz"
    path.write_bytes(gzip.compress(image.to_bytes(), 9, mtime=0))


if __name__ == "__main__":
    main()
