"""What the scanner, the patient and the preprocessing do to an image.

All functions take and return (X, Y, Z) tensors at 1 mm in which white matter is about 1.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from training.segmentation.fields import Draw


def blur(image: torch.Tensor, sigmas: list[float]) -> torch.Tensor:
    """Separable Gaussian blur; ``sigmas`` in voxels, one an axis; edges repeat."""
    out = image[None, None]
    for axis, sigma in enumerate(sigmas):
        if sigma < 0.15:
            continue
        radius = max(1, math.ceil(2.5 * sigma))
        steps = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
        size, pad = [1, 1, 1], [0, 0, 0, 0, 0, 0]
        size[axis] = 2 * radius + 1
        pad[4 - 2 * axis] = pad[5 - 2 * axis] = radius
        padded = F.pad(out, pad, mode="replicate")
        out = F.conv3d(padded, (kernel / kernel.sum()).view(1, 1, *size))
    return out[0, 0]


def random_spacing(draw: Draw) -> list[float]:
    """Voxel size of the acquisition, mm an axis: 1 mm, isotropic to 2, or one thick axis to 3."""
    kind = draw.uniform(0, 1)
    if kind < 0.65:
        return [1.0, 1.0, 1.0]
    if kind < 0.8:
        return [draw.uniform(1.0, 2.0)] * 3
    spacing = [draw.uniform(0.9, 1.2)] * 3
    spacing[draw.integer(3)] = draw.uniform(1.2, 3.0)
    return spacing


def acquire(
    image: torch.Tensor, spacing: list[float], draw: Draw, p_quiet: float = 0.8
) -> torch.Tensor:
    """Blur to the voxel size, sample there, add Rician noise, interpolate back to 1 mm.

    The point spread of a voxel of width r is taken as a Gaussian of FWHM r. ``p_quiet`` is the
    probability of little noise.
    """
    sharp = draw.uniform(0.30, 0.62)
    sigmas = [math.sqrt(sharp**2 + max(0.0, r * r - 1.0) / 2.355**2) for r in spacing]
    out = blur(image, sigmas)
    coarse = tuple(max(8, round(n / r)) for n, r in zip(image.shape, spacing))
    resized = coarse != tuple(image.shape)
    if resized:
        out = F.interpolate(out[None, None], coarse, mode="trilinear", align_corners=True)[0, 0]
    noise = draw.uniform(0, 0.03) if draw.chance(p_quiet) else draw.uniform(0.03, 0.10)
    first, second = draw.normal(2, *out.shape) * noise
    out = torch.sqrt((out + first) ** 2 + second**2)
    if resized:
        out = F.interpolate(
            out[None, None], image.shape, mode="trilinear", align_corners=True
        )[0, 0]  # fmt: skip
    return out


def bias_field(shape: tuple[int, ...], draw: Draw) -> torch.Tensor:
    """Smooth positive field around 1."""
    strength = draw.uniform(0, 0.12) if draw.chance(0.6) else draw.uniform(0.1, 0.35)
    field = draw.smooth(shape, draw.uniform(40, 90))[0]
    return torch.exp(strength * field)


def motion(image: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Ghosts and ringing: the head shifts while lines of k-space are read along one axis."""
    axis = draw.integer(3)
    n = image.shape[axis]
    spectrum = torch.fft.fft(image, dim=axis)
    frequency = torch.fft.fftfreq(n, device=image.device)
    shift = torch.zeros(n, device=image.device)
    for _ in range(1 + draw.integer(4)):
        start, length = draw.integer(n), 1 + draw.integer(max(1, n // 6))
        shift[start : start + length] += draw.uniform(-3, 3)
    # the centre of k-space carries the contrast: patients who move there are rescanned
    shift[frequency.abs() < 0.04] = 0
    phase = torch.exp(-2j * math.pi * frequency * shift)
    size = [1, 1, 1]
    size[axis] = n
    return torch.fft.ifft(spectrum * phase.view(size), dim=axis).abs()


def plateau(image: torch.Tensor, white: torch.Tensor, draw: Draw) -> torch.Tensor:
    """White matter made even by control points, as FreeSurfer's T1.mgz has it.

    Voxels whose whole neighbourhood is near white matter's brightness are taken for it and set to exactly
    one value, and what lies about them is scaled alike. Much of the pallidum, of the thalamus and
    of the upper hind putamen is bright enough to be taken too: there the image is blank. ``white`` tells
    where white matter is.
    """
    size = tuple(image.shape)
    low = [F.avg_pool3d(part[None, None], 4) for part in (image * white, white.float())]
    wide = [blur(part[0, 0], [2.5] * 3) for part in low]
    level = wide[0] / wide[1].clamp(min=1e-4)
    level = torch.where(wide[1] > 1e-3, level, image[white].mean() if white.any() else 1.0)
    level = F.interpolate(level[None, None], size, mode="trilinear", align_corners=False)[0, 0]
    even = image / level.clamp(min=0.05)
    darkest = -F.max_pool3d(-even[None, None], 3, 1, 1)[0, 0]
    brightest = F.max_pool3d(even[None, None], 3, 1, 1)[0, 0]
    control = ((darkest > draw.uniform(0.70, 0.93)) & (brightest < 1.3)).float()
    weight = blur(control, [1.5] * 3)
    around = torch.where(weight > 0.01, blur(even * control, [1.5] * 3) / weight.clamp(min=0.01), 1)
    return torch.where(control > 0, 1.0, even / around.clamp(min=0.3))


def vessels(image: torch.Tensor, allowed: torch.Tensor, draw: Draw) -> torch.Tensor:
    """Bright (contrast agent, inflow) or dark tubes where ``allowed``.

    A tube is where two smooth random fields vanish together.
    """
    first, second = draw.smooth(tuple(image.shape), draw.uniform(14, 30), 2)
    tube = (first**2 + second**2) < draw.uniform(0.002, 0.015)
    value = draw.uniform(1.0, 2.2) if draw.chance(0.8) else 0.05
    return torch.where(tube & allowed, torch.full_like(image, value), image)


def lesions(
    image: torch.Tensor, white_matter: torch.Tensor, csf: float, draw: Draw
) -> torch.Tensor:
    """Dark patches in white matter (hyperintensities of a T2-weighted image)."""
    field = draw.smooth(tuple(image.shape), draw.uniform(4, 12))[0]
    strength = ((field - draw.uniform(1.3, 2.2)) * 3).clamp(0, 1) * white_matter
    value = csf + (1 - csf) * draw.uniform(0.2, 0.85)
    return image * (1 - strength) + value * strength


def brain_extraction(tissue: torch.Tensor, draw: Draw) -> torch.Tensor:
    """A brain mask as a tool would make it: a smooth hull, too wide or too tight in places."""
    sigma = draw.uniform(2.0, 6.0)
    hull = blur(tissue.float(), [sigma] * 3)
    level = torch.tensor(draw.uniform(0.07, 0.36), device=tissue.device)
    if draw.chance(0.6):
        uneven = draw.smooth(tuple(tissue.shape), draw.uniform(10, 30))[0]
        level = level + draw.uniform(0.0, 0.10) * uneven
    return hull > level


def defacing(coordinates: torch.Tensor, front: float, floor: float, draw: Draw) -> torch.Tensor:
    """True where the face was cut off: in front of and below an oblique plane.

    ``coordinates`` (3, X, Y, Z) in the head's own mm (right, anterior, superior); ``front``
    and ``floor`` are the brain's most anterior and most inferior coordinates.
    """
    tilt = draw.uniform(0.5, 1.2)
    offset = draw.uniform(0, 15)
    return (coordinates[1] - front) - tilt * (coordinates[2] - floor - 25.0) > offset - 10.0
