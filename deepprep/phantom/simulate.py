"""Make a BIDS data set whose truth is known: a real head, a simulated BOLD run and field map."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from deepprep.errors import InputError
from deepprep.image.brain_mask import extract_brain
from deepprep.image.conform import to_ras
from deepprep.image.resample import input_voxels, resample, sample_linear
from deepprep.image.volume import Grid, Volume
from deepprep.interfaces.nifti import load_volume
from deepprep.phantom import timecourse
from deepprep.phantom.acquire import Scanner, Source, acquire_frame, spline_maps
from deepprep.phantom.anatomy import HeadModel, model_head
from deepprep.phantom.dataset import write_dataset
from deepprep.phantom.field import scale_to_hz, shim, susceptibility_field
from deepprep.phantom.motion import Trajectory, pose_matrix, random_trajectory, still_trajectory
from deepprep.registration.transforms import Affine

DEMO_HEAD = Path(__file__).parents[1] / "data" / "demo" / "colin27_T1w.nii.gz"
"""Whole-head T1w that ships with the package (see the README beside it)."""

CONDITIONS = ("visual", "motor")
"""Task conditions; each activates its own part of the cortex."""

AREA_RADIUS_MM = 30.0
"""Radius at which activation has fallen to a third."""

FINE_MM = 1.5
"""Voxel edge of the lattice the scanner samples from."""

GREY_LEVEL = 800.0
"""Image intensity of grey matter in the BOLD run."""

ECHO_TIMES_S = (0.00492, 0.00738)
"""Echo times of the field map."""

T1W_POSE = (6.0, -9.0, 14.0, np.deg2rad(5.0), np.deg2rad(-3.0), np.deg2rad(4.0))
"""Where the head lies in the T1w session: mm and rad."""

BOLD_POSE = (-2.5, 4.0, 3.0, np.deg2rad(2.5), np.deg2rad(1.5), np.deg2rad(-3.5))
"""How the head moved between the T1w image and the BOLD run: mm and rad."""

SLAB_TILT_DEG = -18.0
"""Turn of the BOLD slab about the left-right axis."""


@dataclass(frozen=True)
class PhantomOptions:
    """Size and difficulty of a phantom.

    Parameters
    ----------
    n_frames, tr_s, echo_time_s : int, float, float
        Frames, repetition time, echo time.
    shape : (3,) tuple
        BOLD lattice.
    zooms_mm : (3,) tuple
        BOLD voxel edges.
    echo_spacing_s : float
        EffectiveEchoSpacing; TotalReadoutTime is this times (lines - 1).
    pe_direction : str
        ``j`` or ``j-``.
    peak_field_hz : float
        99.5th percentile of the size of the field in the brain; 0 for none.
    motion_mm : float
        Range of slow motion (mm and degrees); 0 for a still head.
    step_mm : float
        Size of each of two sudden moves.
    activation_percent : float
        Signal change in the middle of an active area.
    drift_percent, pulsation_percent : float
        Slow drift; heartbeat and breathing in CSF (a tenth of it elsewhere).
    tsnr : float
        Grey matter signal over thermal noise.
    dropout : bool
        Signal loss where the field is steep through the slice.
    """

    n_frames: int = 120
    tr_s: float = 2.0
    echo_time_s: float = 0.030
    shape: tuple[int, int, int] = (64, 64, 32)
    zooms_mm: tuple[float, float, float] = (3.3, 3.3, 3.8)
    echo_spacing_s: float = 0.00042
    pe_direction: str = "j-"
    peak_field_hz: float = 90.0
    motion_mm: float = 0.8
    step_mm: float = 0.7
    activation_percent: float = 4.0
    drift_percent: float = 1.0
    pulsation_percent: float = 3.0
    tsnr: float = 90.0
    dropout: bool = True

    @property
    def readout_s(self) -> float:
        """TotalReadoutTime."""
        return self.echo_spacing_s * (self.shape[1] - 1)

    def slice_times_s(self) -> np.ndarray:
        """Interleaved ascending: even slices first."""
        order = np.r_[np.arange(0, self.shape[2], 2), np.arange(1, self.shape[2], 2)]
        times = np.empty(self.shape[2])
        times[order] = np.arange(self.shape[2]) * self.tr_s / self.shape[2]
        return np.round(times, 4)


@dataclass(frozen=True)
class Simulated:
    """Everything a phantom is made of, before it is written.

    Parameters
    ----------
    options : PhantomOptions
    t1w : Volume
        The head with its new place in the world.
    bold : Volume
        (X, Y, Z, T) int16.
    magnitudes : (Volume, Volume)
    phasediff : Volume
        0 to 4095 for -pi to pi.
    events : list of Event
    t1w_to_bold : (4, 4) array
        T1w points to BOLD points of the head at rest.
    frame_poses : (T, 4, 4) array
        BOLD points of the head at rest to points in frame t (at half its repetition time).
    motion_parameters : (T, 6) array
        mm and rad of the same poses, about ``centre``.
    centre : (3,) array
        RAS mm in BOLD space about which the head turns.
    field_hz, brain : Volume
        On the BOLD lattice, head at rest, undistorted.
    activations : dict
        Condition to map of signal change in percent, on a 2 mm lattice in T1w space.
    responses : dict
        Condition to (T,) expected response at the middle of each frame.
    tissues : dict
        ``gm``, ``wm``, ``csf`` and ``brain`` on the T1w lattice.
    drift : (T,) array
    """

    options: PhantomOptions
    t1w: Volume
    bold: Volume
    magnitudes: tuple[Volume, Volume]
    phasediff: Volume
    events: list[timecourse.Event]
    t1w_to_bold: np.ndarray
    frame_poses: np.ndarray
    motion_parameters: np.ndarray
    centre: np.ndarray
    field_hz: Volume
    brain: Volume
    activations: dict[str, Volume]
    responses: dict[str, np.ndarray]
    tissues: dict[str, Volume]
    drift: np.ndarray


def make_phantom(
    out_dir: str | os.PathLike,
    t1w_file: str | os.PathLike | None = None,
    *,
    seed: int = 0,
    n_frames: int = 120,
    options: PhantomOptions | None = None,
) -> Path:
    """Write a BIDS data set with truth in ``sourcedata/truth``.

    Parameters
    ----------
    out_dir : path-like
        Folder to make; must be new, empty, or an earlier phantom.
    t1w_file : path-like, optional
        A T1w head with its skull; the bundled one when absent.
    seed : int
        Same seed, same bytes.
    n_frames : int
        Frames of the BOLD run; ignored when ``options`` is given.
    options : PhantomOptions, optional

    Returns
    -------
    Path
        ``out_dir``.

    Raises
    ------
    InputError
        ``t1w_file`` is no image, or ``out_dir`` holds something else.
    """
    out = Path(out_dir)
    if out.exists() and any(out.iterdir()) and not (out / "sourcedata" / "truth").is_dir():
        raise InputError(f"{out} is not empty and no phantom: give a new folder.")
    head = _read_head(Path(t1w_file) if t1w_file else DEMO_HEAD)
    done = simulate(head, options or PhantomOptions(n_frames=n_frames), seed)
    return write_dataset(done, out, Path(t1w_file).name if t1w_file else "Colin27", seed)


def simulate(
    head: Volume, options: PhantomOptions, seed: int = 0, brain: np.ndarray | None = None
) -> Simulated:
    """Simulate a BOLD run and a field map of a head.

    Parameters
    ----------
    head : Volume
        T1w with skull.
    options : PhantomOptions
    seed : int
    brain : (X, Y, Z) bool array, optional
        Brain mask in RAS voxel order; extracted when absent.
    """
    rng = np.random.default_rng(seed)
    ras = to_ras(head)
    if brain is None:
        brain = extract_brain(ras).mask
    model = model_head(ras, brain)
    # T1w world and BOLD world: the head lies obliquely, and moves between the two.
    middle = ras.affine[:3, :3] @ _centre_of(brain) + ras.affine[:3, 3]
    to_t1w = pose_matrix(np.array(T1W_POSE), middle)
    model_affine = to_t1w @ ras.affine
    centre_t1w = middle + T1W_POSE[:3]
    t1w_to_bold = pose_matrix(np.array(BOLD_POSE), centre_t1w)
    centre = centre_t1w + BOLD_POSE[:3]

    grid = _slab(options, centre)
    field = susceptibility_field(model.head, model.air, ras.zooms_mm)
    field = scale_to_hz(shim(field, brain), brain, options.peak_field_hz)
    activations = _activation_maps(model, Volume(ras.data, model_affine))
    to_bold_world = t1w_to_bold @ model_affine
    source = _fine_source(model, field, activations, to_bold_world, grid, options)
    scanner = Scanner(
        grid, options.slice_times_s(), -1 if options.pe_direction.endswith("-") else 1,
        options.readout_s,
    )  # fmt: skip
    duration = options.n_frames * options.tr_s
    trajectory = _trajectory(rng, options, duration, centre)
    events = timecourse.block_design(duration, CONDITIONS, block_s=16.0)
    phases = rng.uniform(0, 2 * np.pi, 3)
    bold = _run(rng, source, scanner, trajectory, events, options, phases)
    magnitudes, phasediff = _field_map(rng, source, grid)

    middles = (np.arange(options.n_frames) + 0.5) * options.tr_s
    coarse = _two_mm_grid(Grid(ras.data.shape[:3], model_affine))
    on_model = {
        k: Volume(getattr(model, k).astype(np.float32), model_affine) for k in ("gm", "wm", "csf")
    }
    on_model["brain"] = Volume(brain.astype(np.float32), model_affine)
    bold_to_t1w = Affine(np.linalg.inv(t1w_to_bold))
    return Simulated(
        options=options,
        t1w=Volume(head.data, to_t1w @ head.affine),
        bold=bold,
        magnitudes=magnitudes,
        phasediff=phasediff,
        events=events,
        t1w_to_bold=t1w_to_bold,
        frame_poses=trajectory.poses(middles),
        motion_parameters=trajectory.at(middles),
        centre=centre,
        field_hz=resample(Volume(field, model_affine), grid, bold_to_t1w, "linear"),
        brain=resample(on_model["brain"], grid, bold_to_t1w, "linear"),
        activations={
            k: resample(Volume(100 * m, model_affine), coarse, None, "linear")
            for k, m in activations.items()
        },
        responses={c: timecourse.response(events, c, middles) for c in CONDITIONS},
        tissues=on_model,
        drift=timecourse.drift(middles, duration, phases[2]),
    )


def _read_head(path: Path) -> Volume:
    try:
        head = load_volume(path, dtype=None)
    except Exception as error:
        raise InputError(f"{path} cannot be read as an image: give a T1w NIfTI file.") from error
    if head.data.ndim != 3 or not np.isfinite(head.data).all() or not head.data.any():
        raise InputError(f"{path} is not a 3D image with finite values: give a T1w head.")
    return head


def _centre_of(mask: np.ndarray) -> np.ndarray:
    return np.array(ndimage.center_of_mass(mask))


def _slab(options: PhantomOptions, centre: np.ndarray) -> Grid:
    """BOLD lattice: LAS as scanners write it, tilted, reaching the vertex."""
    tilt = pose_matrix(np.r_[0, 0, 0, np.deg2rad(SLAB_TILT_DEG), 0.02, -0.03], np.zeros(3))
    affine = tilt @ np.diag([-options.zooms_mm[0], *options.zooms_mm[1:], 1.0])
    middle = (np.array(options.shape) - 1) / 2.0
    affine[:3, 3] = centre + tilt[:3, :3] @ [0.0, 2.0, 4.0] - affine[:3, :3] @ middle
    return Grid(options.shape, affine)


def _two_mm_grid(grid: Grid) -> Grid:
    scale = 2.0 / grid.zooms_mm
    shape = np.ceil(np.array(grid.shape) / scale).astype(int)
    return Grid(tuple(shape.tolist()), grid.affine @ np.diag([*scale, 1.0]))


def _trajectory(
    rng: np.random.Generator, options: PhantomOptions, duration: float, centre: np.ndarray
) -> Trajectory:
    if options.motion_mm == 0 and options.step_mm == 0:
        return still_trajectory(duration, centre)
    n_steps = 2 if options.step_mm and options.n_frames >= 20 else 0
    return random_trajectory(
        rng, duration, options.tr_s, centre, options.motion_mm, options.step_mm, n_steps
    )


def _activation_maps(model: HeadModel, t1w: Volume) -> dict[str, np.ndarray]:
    """Fractional signal change of each condition on the T1w lattice, before scaling to 1.

    Grey matter within soft balls, placed as fractions of the brain's bounding box: calcarine
    cortex for ``visual``, both hand areas for ``motor``.
    """
    low, high = (np.array(f) for f in zip(*_bounding_box(model.brain), strict=True))
    zooms = t1w.zooms_mm
    spots = {
        "visual": [(0.5, 0.08, 0.42)],
        "motor": [(0.22, 0.47, 0.86), (0.78, 0.47, 0.86)],
    }
    index = np.stack(
        np.meshgrid(*(np.arange(n) for n in t1w.shape[:3]), indexing="ij", sparse=False)
    )
    maps = {}
    for condition, places in spots.items():
        ball = np.zeros(t1w.shape[:3], dtype=np.float32)
        for place in places:
            at = low + np.array(place) * (high - low)
            squared = sum(((index[a] - at[a]) * zooms[a]) ** 2 for a in range(3))
            ball = np.maximum(ball, np.exp(-((squared / AREA_RADIUS_MM**2) ** 2)))
        maps[condition] = (ball * model.gm).astype(np.float32)
    return maps


def _bounding_box(mask: np.ndarray) -> list[tuple[int, int]]:
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        found = np.flatnonzero(mask.any(axis=others))
        box.append((int(found[0]), int(found[-1])))
    return box


def _fine_source(
    model: HeadModel,
    field: np.ndarray,
    activations: dict[str, np.ndarray],
    to_world: np.ndarray,
    bold_grid: Grid,
    options: PhantomOptions,
) -> Source:
    """Maps on a fine lattice along the BOLD axes, blurred by the voxel, head at rest."""
    reach = np.array(bold_grid.shape) * bold_grid.zooms_mm + 24.0
    shape = np.ceil(reach / FINE_MM).astype(int)
    axes = bold_grid.affine[:3, :3] / bold_grid.zooms_mm
    affine = np.eye(4)
    affine[:3, :3] = axes * FINE_MM
    affine[:3, 3] = bold_grid.centre_ras - affine[:3, :3] @ ((shape - 1) / 2.0)
    grid = Grid(shape, affine)
    # A voxel is a box; a Gaussian with the box's variance, minus that of the fine voxel.
    blur = np.sqrt(np.maximum(bold_grid.zooms_mm**2 - FINE_MM**2, 0) / 12.0) / FINE_MM

    coords = input_voxels(Grid(model.brain.shape, to_world), grid, None)

    def fine(data: np.ndarray) -> np.ndarray:
        return sample_linear(data, coords)

    hz = fine(field)
    lost = _dropout(hz, bold_grid, options) if options.dropout else 1.0
    signals = [model.signal, model.excess, model.signal * model.csf]
    signals += [model.signal * activations[c] for c in CONDITIONS]
    maps = [ndimage.gaussian_filter(fine(s) * lost, blur) for s in signals]
    return Source(grid, spline_maps(np.stack(maps).astype(np.float32)), hz)


def _dropout(hz: np.ndarray, bold_grid: Grid, options: PhantomOptions) -> np.ndarray:
    """Signal kept where the field varies through the slice: |sinc| of the phase spread."""
    slope = np.gradient(hz, FINE_MM, axis=2) * bold_grid.zooms_mm[2]
    return np.abs(np.sinc(slope * options.echo_time_s)).astype(np.float32)


def _run(
    rng: np.random.Generator,
    source: Source,
    scanner: Scanner,
    trajectory: Trajectory,
    events: list[timecourse.Event],
    options: PhantomOptions,
    phases: np.ndarray,
) -> Volume:
    shape, n = scanner.grid.shape, options.n_frames
    duration = n * options.tr_s
    receive = _receive_profile(shape)
    wander = ndimage.gaussian_filter(rng.normal(size=shape), [12, 12, 6])
    wander /= np.abs(wander).max()
    out = np.empty((*shape, n), dtype=np.int16)
    amplitude = options.activation_percent / 100
    for t in range(n):
        times = t * options.tr_s + scanner.slice_times_s
        base, excess, csf, *active = acquire_frame(source, scanner, trajectory.poses(times))
        beat = timecourse.pulsation(times, phases[:2]) * options.pulsation_percent / 100
        slow = timecourse.drift(times, duration, phases[2]) * options.drift_percent / 100
        frame = base * (1 + 0.1 * beat + slow * (1 + 0.5 * wander)) + csf * beat
        for condition, area in zip(CONDITIONS, active, strict=True):
            frame += area * amplitude * timecourse.response(events, condition, times)
        # Saturation of T1 over the first frames (about a fifth is left after each).
        frame += excess * 0.22**t
        out[..., t] = _noisy(rng, frame * receive, options.tsnr)
    return Volume(out, scanner.grid.affine)


def _noisy(rng: np.random.Generator, frame: np.ndarray, tsnr: float) -> np.ndarray:
    """Magnitude of a signal with complex thermal noise, as integers."""
    noise = rng.normal(scale=1.0 / tsnr, size=(2, *frame.shape))
    return np.rint(GREY_LEVEL * np.hypot(frame + noise[0], noise[1])).astype(np.int16)


def _receive_profile(shape: tuple[int, int, int]) -> np.ndarray:
    """Coil sensitivity: brighter near the surface, fixed to the scanner."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij", sparse=True)
    return (1.0 + 0.12 * (x**2 + y**2) + 0.06 * z - 0.04 * y).astype(np.float32)


def _field_map(
    rng: np.random.Generator, source: Source, bold_grid: Grid
) -> tuple[tuple[Volume, Volume], Volume]:
    """Two gradient-echo magnitudes and their phase difference, head at rest, undistorted."""
    grid = bold_grid
    still = np.broadcast_to(np.eye(4), (grid.shape[2], 4, 4))
    signal = acquire_frame(source, Scanner(grid, np.zeros(grid.shape[2]), 1, 0.0), still)[0]
    points = Volume(source.field_hz, source.grid.affine)
    hz = resample(points, grid, None, "linear").data
    signal = signal * _receive_profile(grid.shape)
    magnitudes = [Volume(_noisy(rng, weight * signal, 60.0), grid.affine) for weight in (1, 0.93)]
    delta = ECHO_TIMES_S[1] - ECHO_TIMES_S[0]
    complex_noise = rng.normal(scale=1 / 60.0, size=(2, *hz.shape))
    wave = signal * np.exp(2j * np.pi * hz * delta) + complex_noise[0] + 1j * complex_noise[1]
    steps = np.rint((np.angle(wave) + np.pi) / (2 * np.pi) * 4095).astype(np.int16)
    return (magnitudes[0], magnitudes[1]), Volume(steps, grid.affine)
