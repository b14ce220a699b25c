"""Make the templates bundled under deepprep/data/templates from openly licensed wheels.

Run once by a maintainer; the result is committed, so users and tests never run it::

    python training/templates/build_templates.py \
        --t1prep t1prep-0.8.1-py3-none-any.whl --suitpy suitpy-2.1.2.tar.gz \
        --out deepprep/data/templates

Recipe
------
MNI152NLin2009cAsym: the 0.5 mm brain of t1prep is averaged over a voxel onto TemplateFlow's
res-01 and res-02 lattices. The mask is its non-zero support, closed and filled. Tissue maps:
t1prep's 1.5 mm Shooting template (frames GM, WM, rest) is too smooth for 1 mm work, so it is
the spatial prior of a three-class Gaussian mixture fitted (EM) to the 1 mm brain; the shipped
maps are the posteriors. res-02 maps are 2 mm box averages of the res-01 ones.

MNI152NLin6Asym: suitpy's copy of the 1 mm head and mask (LAS, 20 slices longer at the neck) is
cropped and reordered, not resampled, to TemplateFlow's res-01 lattice. Tissue maps are those of
2009cAsym pulled through t1prep's displacement field between the two spaces.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import tarfile
import zipfile
from importlib import resources
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.registration.transforms import Displacement

T1PREP_FOLDER = "t1prep/data/templates_MNI152NLin2009cAsym/"
SUITPY_FOLDER = "suitpy-2.1.2/SUITPy/templates/"
TISSUES = ("GM", "WM", "CSF")
"""Order of tissue classes; ``dseg`` labels are 1, 2, 3 in this order, as fMRIPrep writes them."""

PRIOR_SHARPNESS = 0.5
"""Exponent on the 1.5 mm tissue priors: below 1 lets the 1 mm intensities decide edges."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--t1prep", type=Path, required=True, help="t1prep wheel")
    parser.add_argument("--suitpy", type=Path, required=True, help="suitpy sdist")
    parser.add_argument("--out", type=Path, required=True, help="templates folder")
    args = parser.parse_args()
    t1prep = zipfile.ZipFile(args.t1prep)
    tissues_1mm = build_2009c(t1prep, args.out)
    with tarfile.open(args.suitpy) as suitpy:
        build_nlin6(t1prep, suitpy, tissues_1mm, args.out)


def templateflow_grid(template: str, resolution: str) -> Grid:
    """TemplateFlow's lattice of a template, from the skeleton in its wheel."""
    skeleton = resources.files("templateflow") / "conf" / "templateflow-skel.zip"
    with zipfile.ZipFile(io.BytesIO(skeleton.read_bytes())) as z:
        described = json.loads(z.read(f"tpl-{template}/template_description.json"))
    res = described["res"][resolution]
    affine = np.diag([*res["zooms"], 1.0])
    affine[:3, 3] = res["origin"]
    return Grid(res["shape"], affine)


def read_nifti(raw: bytes) -> Volume:
    """Image bytes (.nii.gz) to a float32 volume in RAS order."""
    image = nib.Nifti1Image.from_bytes(gzip.decompress(raw))
    image = nib.as_closest_canonical(image)
    return Volume(image.get_fdata(dtype=np.float32), image.affine)


def build_2009c(t1prep: zipfile.ZipFile, out: Path) -> list[Volume]:
    """Write both resolutions of MNI152NLin2009cAsym; return its 1 mm tissue maps."""
    name = "MNI152NLin2009cAsym"
    brain_05 = read_nifti(t1prep.read(T1PREP_FOLDER + "Template_05mm_bet.nii.gz"))
    prior = read_nifti(t1prep.read(T1PREP_FOLDER + "Template_4_GS.nii.gz"))
    support = closed_support(brain_05)
    grid_1, grid_2 = templateflow_grid(name, "01"), templateflow_grid(name, "02")
    brain, mask = block_average(brain_05, grid_1), block_average(support, grid_1)
    tissues = mixture_tissues(brain, mask, resample(prior, grid_1, interpolation="linear"))
    write_template(out, name, "01", None, brain, mask, tissues)
    write_template(
        out,
        name,
        "02",
        None,
        block_average(brain_05, grid_2),
        block_average(support, grid_2),
        [resample(t, grid_2, interpolation="linear") for t in tissues],
    )
    return tissues


def build_nlin6(
    t1prep: zipfile.ZipFile, suitpy: tarfile.TarFile, tissues_2009c: list[Volume], out: Path
) -> None:
    """Write both resolutions of MNI152NLin6Asym."""
    name = "MNI152NLin6Asym"

    def member(file: str) -> Volume:
        handle = suitpy.extractfile(SUITPY_FOLDER + file)
        assert handle is not None
        return read_nifti(handle.read())

    grid_1, grid_2 = templateflow_grid(name, "01"), templateflow_grid(name, "02")
    head = crop(member("tpl-MNI152NLin6Asym_T1w.nii.gz"), grid_1)
    mask = crop(member("tpl-MNI152NLin6Asym-brain_mask.nii.gz"), grid_1)
    mask = mask.like(ndimage.binary_fill_holes(mask.data > 0.5).astype(np.float32))
    # The field is RAS mm on a 3 mm 2009c lattice: 6Asym point + field = 2009cAsym point.
    field = t1prep.read(T1PREP_FOLDER + f"tpl-{name}_to-MNI152NLin2009cAsym_desc-disp_xfm.nii.gz")
    warp = read_nifti(field)
    to_2009c = Displacement(warp.data, warp.affine)
    tissues = [resample(t, grid_1, to_2009c, interpolation="linear") for t in tissues_2009c]
    tissues = normalise_tissues(tissues, mask)
    brain = head.like(head.data * (mask.data > 0.5))
    write_template(out, name, "01", head, brain, mask, tissues)

    # 2 mm centres of this template fall on 1 mm centres: smooth by one voxel box, then pick.
    def half(volume: Volume) -> Volume:
        smooth = ndimage.convolve1d
        data = volume.data
        for axis in range(3):
            data = smooth(data, [0.25, 0.5, 0.25], axis=axis, mode="constant")
        return resample(volume.like(data), grid_2, interpolation="linear")

    write_template(
        out, name, "02", half(head), half(brain), half(mask), [half(t) for t in tissues]
    )


def crop(volume: Volume, grid: Grid) -> Volume:
    """The part of a volume that lies on ``grid``, which must share its lattice exactly."""
    offset = np.rint((grid.affine[:3, 3] - volume.affine[:3, 3]) / grid.zooms_mm).astype(int)
    window = tuple(slice(o, o + n) for o, n in zip(offset, grid.shape, strict=True))
    data = volume.data[window]
    assert data.shape == grid.shape
    assert np.allclose(volume.affine[:3, :3] @ offset + volume.affine[:3, 3], grid.affine[:3, 3])
    return Volume(data, grid.affine)


def closed_support(brain: Volume) -> Volume:
    """Brain mask: the non-zero support, largest component, closed by 1.5 mm and filled."""
    support = ndimage.binary_closing(np.pad(brain.data > 0.02, 4), iterations=3)[4:-4, 4:-4, 4:-4]
    labels, _ = ndimage.label(support)
    support = labels == np.argmax(np.bincount(labels.ravel())[1:]) + 1
    return brain.like(ndimage.binary_fill_holes(support).astype(np.float32))


def block_average(volume: Volume, grid: Grid) -> Volume:
    """Mean over each output voxel's box; lattice points coincide with samples of ``volume``."""
    factor = int(round(grid.zooms_mm[0] / volume.zooms_mm[0]))
    kernel = np.ones(factor + 1) / factor
    kernel[[0, -1]] /= 2.0
    data = volume.data
    for axis in range(3):
        data = ndimage.convolve1d(data, kernel, axis=axis, mode="constant")
    return resample(volume.like(data), grid, interpolation="linear")


def mixture_tissues(
    brain: Volume, mask: Volume, prior: Volume, iterations: int = 30
) -> list[Volume]:
    """Posterior GM, WM, CSF of a Gaussian mixture with spatial priors, inside the mask."""
    inside = mask.data > 0.5
    intensity = brain.data[inside].astype(np.float64)
    priors = np.clip(prior.data[inside].astype(np.float64), 1e-3, 1.0) ** PRIOR_SHARPNESS
    priors /= priors.sum(axis=1, keepdims=True)
    posterior = priors
    for _ in range(iterations):
        weight = posterior.sum(axis=0)
        mean = (posterior * intensity[:, None]).sum(axis=0) / weight
        variance = (posterior * (intensity[:, None] - mean) ** 2).sum(axis=0) / weight
        likelihood = np.exp(-0.5 * (intensity[:, None] - mean) ** 2 / variance)
        posterior = priors * likelihood / np.sqrt(variance) + 1e-12
        posterior /= posterior.sum(axis=1, keepdims=True)
    print("class means (GM, WM, CSF):", mean.round(3), "sd:", np.sqrt(variance).round(3))
    maps = []
    for k in range(3):
        data = np.zeros(brain.data.shape, dtype=np.float32)
        data[inside] = posterior[:, k]
        maps.append(brain.like(data))
    return maps


def normalise_tissues(tissues: list[Volume], mask: Volume) -> list[Volume]:
    """Probabilities that sum to one inside the mask (CSF where none is left), zero outside."""
    stack = np.stack([t.data for t in tissues])
    inside = mask.data > 0.5
    total = stack.sum(axis=0)
    stack[2] += np.where(total < 1e-3, 1.0, 0.0)
    stack = np.where(inside, stack / np.maximum(stack.sum(axis=0), 1e-3), 0.0)
    return [mask.like(s.astype(np.float32)) for s in stack]


def write_template(
    out: Path,
    name: str,
    res: str,
    head: Volume | None,
    brain: Volume,
    mask: Volume,
    tissues: list[Volume],
) -> None:
    """Write one resolution under TemplateFlow's file names, 8 bit, bytes reproducible."""
    stem = out / f"tpl-{name}" / f"tpl-{name}_res-{res}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    inside = mask.data > 0.5
    top = float(np.percentile(brain.data[inside], 99.9))
    if head is not None:
        save_scaled(head, f"{stem}_T1w.nii.gz", top * 1.25)
    save_scaled(brain.like(brain.data * inside), f"{stem}_desc-brain_T1w.nii.gz", top)
    save_integers(inside, brain.affine, f"{stem}_desc-brain_mask.nii.gz")
    labels = np.argmax(np.stack([t.data for t in tissues]), axis=0) + 1
    save_integers(np.where(inside, labels, 0), brain.affine, f"{stem}_dseg.nii.gz")
    for tissue, volume in zip(TISSUES, tissues, strict=True):
        data = volume.like(np.clip(volume.data, 0, 1) * inside)
        save_scaled(data, f"{stem}_label-{tissue}_probseg.nii.gz", 1.0)


def save_scaled(volume: Volume, path: str, top: float) -> None:
    """Store 0..top in 8 bits; the header slope gives back 0..100 (images) or 0..1 (maps)."""
    data = np.rint(np.clip(volume.data / top, 0, 1) * 255).astype(np.uint8)
    _save(data, volume.affine, path, slope=(1.0 if top == 1.0 else 100.0) / 255)


def save_integers(data: np.ndarray, affine: np.ndarray, path: str) -> None:
    _save(data.astype(np.uint8), affine, path, slope=None)


def _save(data: np.ndarray, affine: np.ndarray, path: str, slope: float | None) -> None:
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, 4)
    image.set_sform(affine, 4)
    image.header.set_xyzt_units("mm")
    if slope is not None:
        image.header.set_slope_inter(slope, 0)
    raw = bytearray(image.to_bytes())
    if slope is not None:
        # nibabel resets the slope of integer images when it serialises; set it in the bytes.
        raw[112:120] = np.array([slope, 0], dtype=np.float32).tobytes()
    Path(path).write_bytes(gzip.compress(bytes(raw), compresslevel=9, mtime=0))


if __name__ == "__main__":
    main()
