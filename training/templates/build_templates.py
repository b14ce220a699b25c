"""Make the templates bundled under deepprep/data/templates from openly licensed wheels.

Run once by a maintainer; the result is committed, so users and tests never run it::

    python training/templates/build_templates.py \
        --t1prep t1prep-0.8.1-py3-none-any.whl --suitpy suitpy-2.1.2.tar.gz \
        --out deepprep/data/templates

Recipe
------
MNI152NLin6Asym: suitpy's copy of the 1 mm head and mask (LAS, 20 slices longer at the neck) is
cropped and reordered, not resampled, to TemplateFlow's res-01 lattice.

MNI152NLin2009cAsym: that head pulled through t1prep's displacement field between the two spaces
(3 mm lattice, RAS mm: a 2009cAsym point plus its vector is a 6Asym point). t1prep's own 0.5 mm brain is NOT used: measured against nilearn's ICBM 2009a template it
is 3-5 % too small (up to 3 mm at the vertex), while the head pulled through the field agrees
with 2009a within 0.4 mm.

Tissue maps: a three-class Gaussian mixture fitted (EM) to each 1 mm brain. Its spatial priors
are t1prep's 1.5 mm Shooting maps (GM, WM, rest), brought into place by an affine registration
of t1prep's brain. res-02 images are 2 mm box averages of res-01.
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
import SimpleITK as sitk
from scipy import ndimage

from deepprep.image.resample import resample
from deepprep.image.volume import Grid, Volume
from deepprep.registration.transforms import Affine, Chain, Displacement

T1PREP_FOLDER = "t1prep/data/templates_MNI152NLin2009cAsym/"
FIELD = "tpl-MNI152NLin2009cAsym_to-MNI152NLin6Asym_desc-disp_xfm.nii.gz"
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
    with tarfile.open(args.suitpy) as suitpy:
        head, mask = read_nlin6(suitpy)
    brain = head.like(head.data * (mask.data > 0.5))
    t1prep_brain = read_nifti(t1prep.read(T1PREP_FOLDER + "Template_05mm_bet.nii.gz"))
    prior = read_nifti(t1prep.read(T1PREP_FOLDER + "Template_4_GS.nii.gz"))
    to_prior = register(brain, t1prep_brain)
    prior_6 = resample(prior, head.grid, to_prior, interpolation="linear")
    write_both("MNI152NLin6Asym", head, mask, prior_6, args.out)

    field = read_nifti(t1prep.read(T1PREP_FOLDER + FIELD))
    to_nlin6 = Displacement(field.data, field.affine)
    grid = templateflow_grid("MNI152NLin2009cAsym", "01")
    head_c = resample(head, grid, to_nlin6)
    head_c = head_c.like(np.clip(head_c.data, 0, None))
    mask_c = resample(mask, grid, to_nlin6, interpolation="linear")
    prior_c = resample(prior, grid, Chain([to_nlin6, to_prior]), interpolation="linear")
    write_both("MNI152NLin2009cAsym", head_c, mask_c, prior_c, args.out)


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


def read_nlin6(suitpy: tarfile.TarFile) -> tuple[Volume, Volume]:
    """Head and filled brain mask of MNI152NLin6Asym on TemplateFlow's res-01 lattice."""
    grid = templateflow_grid("MNI152NLin6Asym", "01")
    volumes = []
    for file in ("tpl-MNI152NLin6Asym_T1w.nii.gz", "tpl-MNI152NLin6Asym-brain_mask.nii.gz"):
        handle = suitpy.extractfile(SUITPY_FOLDER + file)
        assert handle is not None
        volumes.append(crop(read_nifti(handle.read()), grid))
    head, mask = volumes
    # The shipped mask has holes at the ventricles and pinholes at the basal cisterns.
    closed = ndimage.binary_closing(np.pad(mask.data > 0.5, 6), iterations=5)[6:-6, 6:-6, 6:-6]
    return head, mask.like(ndimage.binary_fill_holes(closed).astype(np.float32))


def register(fixed: Volume, moving: Volume) -> Affine:
    """12-parameter affine map from fixed to moving points (correlation, SimpleITK)."""

    def to_itk(volume: Volume) -> sitk.Image:
        image = sitk.GetImageFromArray(np.ascontiguousarray(volume.data.T.astype(np.float32)))
        zooms = volume.zooms_mm
        lps = np.diag([-1.0, -1.0, 1.0])
        image.SetSpacing(zooms.tolist())
        image.SetOrigin((lps @ volume.affine[:3, 3]).tolist())
        image.SetDirection((lps @ volume.affine[:3, :3] / zooms).ravel().tolist())
        return image

    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(0.1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2])
    method.SetSmoothingSigmasPerLevel([2.0, 1.0])
    method.SetInitialTransform(sitk.AffineTransform(3), inPlace=False)
    done = method.Execute(to_itk(fixed), to_itk(moving))
    affine = sitk.AffineTransform(sitk.CompositeTransform(done).GetNthTransform(0))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(affine.GetMatrix(), (3, 3))
    centre = np.array(affine.GetCenter())
    matrix[:3, 3] = np.array(affine.GetTranslation()) + centre - matrix[:3, :3] @ centre
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    print("affine to the priors, correlation", round(-method.GetMetricValue(), 4))
    print((flip @ matrix @ flip).round(3))
    return Affine(flip @ matrix @ flip)


def write_both(name: str, head: Volume, mask: Volume, prior: Volume, out: Path) -> None:
    """Write res-01 and res-02 of a template from its 1 mm head, mask and tissue priors."""
    brain = head.like(head.data * (mask.data > 0.5))
    tissues = mixture_tissues(brain, mask, prior)
    write_template(out, name, "01", head, brain, mask, tissues)
    grid = templateflow_grid(name, "02")

    def half(volume: Volume) -> Volume:
        return two_mm(volume, grid)

    write_template(out, name, "02", half(head), half(brain), half(mask), [half(t) for t in tissues])


def two_mm(volume: Volume, grid: Grid) -> Volume:
    """Mean over 2 mm boxes of a 1 mm volume.

    The 2 mm centres of 2009cAsym lie midway between 1 mm centres, where trilinear sampling is
    the box mean; those of 6Asym lie on 1 mm centres and need the box first.
    """
    offset = (grid.affine[:3, 3] - volume.affine[:3, 3]) % 1.0
    data = volume.data
    if np.allclose(offset, 0.0):
        for axis in range(3):
            data = ndimage.convolve1d(data, [0.25, 0.5, 0.25], axis=axis, mode="constant")
    return resample(volume.like(data), grid, interpolation="linear")


def crop(volume: Volume, grid: Grid) -> Volume:
    """The part of a volume that lies on ``grid``, which must share its lattice exactly."""
    offset = np.rint((grid.affine[:3, 3] - volume.affine[:3, 3]) / grid.zooms_mm).astype(int)
    window = tuple(slice(o, o + n) for o, n in zip(offset, grid.shape, strict=True))
    data = volume.data[window]
    assert data.shape == grid.shape
    assert np.allclose(volume.affine[:3, :3] @ offset + volume.affine[:3, 3], grid.affine[:3, 3])
    return Volume(data, grid.affine)


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
        # Outside the brain coarser grey steps do no harm and halve the file.
        coarse = top * 1.25 / 255 * 4
        outside = np.rint(head.data / coarse) * coarse
        near = ndimage.binary_dilation(inside, iterations=4)
        save_scaled(head.like(np.where(near, head.data, outside)), f"{stem}_T1w.nii.gz", top * 1.25)
    save_scaled(brain.like(brain.data * inside), f"{stem}_desc-brain_T1w.nii.gz", top)
    save_integers(inside, brain.affine, f"{stem}_desc-brain_mask.nii.gz")
    labels = np.argmax(np.stack([t.data for t in tissues]), axis=0) + 1
    save_integers(np.where(inside, labels, 0), brain.affine, f"{stem}_dseg.nii.gz")
    for tissue, volume in zip(TISSUES, tissues, strict=True):
        data = volume.like(np.clip(volume.data, 0, 1) * inside)
        save_scaled(data, f"{stem}_label-{tissue}_probseg.nii.gz", 1.0)


def save_scaled(volume: Volume, path: str, top: float) -> None:
    """Store 0..top in 8 bits; the header slope gives back 0..top for maps, 0..100 for images."""
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
