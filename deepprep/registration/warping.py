"""Compiled trilinear interpolation at displaced voxels, the work horse of velocity fields."""

from __future__ import annotations

import numba
import numpy as np

from deepprep.image.compiled import compiled


@compiled(parallel=True)
def pull_trilinear(values, field):  # type: ignore[no-untyped-def]
    """Values at ``x + field(x)`` for every voxel ``x``; the border's value outside.

    Five times faster than torch's ``grid_sample`` on a CPU, which must be given coordinates.

    Parameters
    ----------
    values : (C, X, Y, Z) float32 array
        Channels.
    field : (3, X, Y, Z) float32 array
        Displacement in voxels.

    Returns
    -------
    (C, X, Y, Z) float32 array
    """
    channels, nx, ny, nz = values.shape
    out = np.empty((channels, nx, ny, nz), np.float32)
    flat = values.reshape(channels, nx * ny * nz)
    zero = np.float32(0)
    far_x, far_y, far_z = np.float32(nx - 1), np.float32(ny - 1), np.float32(nz - 1)
    # unsigned: numba asks of every signed index whether it counts from the end
    dx, dy, dz = np.uint64(ny * nz), np.uint64(nz), np.uint64(1)
    for x in numba.prange(nx):
        for y in range(ny):
            ux, uy, uz = field[0, x, y], field[1, x, y], field[2, x, y]
            for z in range(nz):
                px = min(max(np.float32(x) + ux[z], zero), far_x)
                py = min(max(np.float32(y) + uy[z], zero), far_y)
                pz = min(max(np.float32(z) + uz[z], zero), far_z)
                i, j, k = min(int(px), nx - 2), min(int(py), ny - 2), min(int(pz), nz - 2)
                fx, fy, fz = px - np.float32(i), py - np.float32(j), pz - np.float32(k)
                at = np.uint64(i) * dx + np.uint64(j) * dy + np.uint64(k)
                for c in range(channels):
                    v = flat[c]
                    a = v[at] + fz * (v[at + dz] - v[at])
                    b = v[at + dy] + fz * (v[at + dy + dz] - v[at + dy])
                    low = a + fy * (b - a)
                    a = v[at + dx] + fz * (v[at + dx + dz] - v[at + dx])
                    b = v[at + dx + dy] + fz * (v[at + dx + dy + dz] - v[at + dx + dy])
                    high = a + fy * (b - a)
                    out[c, x, y, z] = low + fx * (high - low)
    return out


@compiled()
def _value_and_slope(v, p, value, slope):  # type: ignore[no-untyped-def]
    """Trilinear (3,) value of a field and its (3, 3) derivative at a voxel position."""
    low, f = np.empty(3, np.int64), np.empty(3)
    for a in range(3):
        q = min(max(p[a], 0.0), v.shape[a + 1] - 1.0)
        low[a] = min(int(q), v.shape[a + 1] - 2)
        f[a] = q - low[a]
    i, j, k = low
    for c in range(3):
        value[c] = 0.0
        slope[c, 0] = slope[c, 1] = slope[c, 2] = 0.0
        for a in range(2):
            wx, sx = (f[0], 1.0) if a else (1.0 - f[0], -1.0)
            for b in range(2):
                wy, sy = (f[1], 1.0) if b else (1.0 - f[1], -1.0)
                for d in range(2):
                    wz, sz = (f[2], 1.0) if d else (1.0 - f[2], -1.0)
                    u = v[c, i + a, j + b, k + d]
                    value[c] += wx * wy * wz * u
                    slope[c, 0] += sx * wy * wz * u
                    slope[c, 1] += wx * sy * wz * u
                    slope[c, 2] += wx * wy * sz * u


@compiled()
def _solve(m, r, out):  # type: ignore[no-untyped-def]
    """(3,) solution of m s = r; r itself where m has no inverse."""
    ca = m[1, 1] * m[2, 2] - m[1, 2] * m[2, 1]
    cb = m[1, 2] * m[2, 0] - m[1, 0] * m[2, 2]
    cc = m[1, 0] * m[2, 1] - m[1, 1] * m[2, 0]
    det = m[0, 0] * ca + m[0, 1] * cb + m[0, 2] * cc
    if abs(det) < 1e-6:
        out[:] = r
        return
    out[0] = ca * r[0] + (m[0, 2] * m[2, 1] - m[0, 1] * m[2, 2]) * r[1]
    out[0] += (m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1]) * r[2]
    out[1] = cb * r[0] + (m[0, 0] * m[2, 2] - m[0, 2] * m[2, 0]) * r[1]
    out[1] += (m[0, 2] * m[1, 0] - m[0, 0] * m[1, 2]) * r[2]
    out[2] = cc * r[0] + (m[0, 1] * m[2, 0] - m[0, 0] * m[2, 1]) * r[1]
    out[2] += (m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0]) * r[2]
    for a in range(3):
        out[a] /= det


@compiled(parallel=True)
def invert_field(field, guess, to_field, shape, tolerance, rounds):  # type: ignore[no-untyped-def]
    """``w`` with ``w + field(p + w) = 0`` at the points of a lattice, by Newton's method from a guess.

    A step that does not bring the residual down is halved, so that the guess is never made worse.

    Parameters
    ----------
    field, guess : (3, X, Y, Z) float32 arrays
        Voxels of their lattice; the border's value holds outside.
    to_field : (3, 4) float64 array
        Voxels of the lattice of points to positions ``p`` in voxels of the field.
    shape : (X', Y', Z')
        Lattice of points. Beyond the field's lattice ``w`` is zero.
    tolerance : float
        Residual, in voxels, that is good enough.
    rounds : int
        Evaluations at most.

    Returns
    -------
    (3, X', Y', Z') float32 array
    """
    nx, ny, nz = shape
    out = np.zeros((3, nx, ny, nz), np.float32)
    for x in numba.prange(nx):
        at, p, w, r = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
        step, trial, u, m = np.empty(3), np.empty(3), np.empty(3), np.empty((3, 3))
        for y in range(ny):
            for z in range(nz):
                inside = True
                for a in range(3):
                    at[a] = to_field[a, 3]
                    at[a] += to_field[a, 0] * x + to_field[a, 1] * y + to_field[a, 2] * z
                    inside &= -0.5 <= at[a] <= field.shape[a + 1] - 0.5
                if not inside:
                    continue
                _value_and_slope(guess, at, w, m)
                trial[:] = w
                best, part = np.inf, 1.0
                for _ in range(rounds):
                    p[:] = at + trial
                    _value_and_slope(field, p, u, m)
                    size = 0.0
                    for a in range(3):
                        r[a] = trial[a] + u[a]
                        size += r[a] * r[a]
                    if size < best:
                        best, part = size, 1.0
                        w[:] = trial
                        if size <= tolerance * tolerance:
                            break
                        for a in range(3):
                            m[a, a] += 1.0
                        _solve(m, r, step)
                    else:
                        part *= 0.5
                    for a in range(3):
                        trial[a] = w[a] - part * step[a]
                for a in range(3):
                    out[a, x, y, z] = w[a]
    return out


@compiled(parallel=True)
def demons_force(fixed, moved, calm, weight):  # type: ignore[no-untyped-def]
    """Demons step summed over channels, with the mean slope of both images.

    Parameters
    ----------
    fixed, moved : (C, X, Y, Z) float32 arrays
        Features on one lattice, ``moved`` at the present map.
    calm : float
        Weight of the squared residual in the denominator: the longest step is
        ``1 / (2 sqrt(calm))`` voxels.
    weight : (X, Y, Z) float32 array
        Multiplies the step; 0 where nothing may pull, as in a lesion.

    Returns
    -------
    (3, X, Y, Z) float32 array
        Voxels.
    """
    channels, nx, ny, nz = fixed.shape
    out = np.empty((3, nx, ny, nz), np.float32)
    for x in numba.prange(nx):
        xa, xb = max(x - 1, 0), min(x + 1, nx - 1)
        sx = np.float32(0.5 / max(xb - xa, 1))
        for y in range(ny):
            ya, yb = max(y - 1, 0), min(y + 1, ny - 1)
            sy = np.float32(0.5 / max(yb - ya, 1))
            for z in range(nz):
                if weight[x, y, z] == 0:
                    out[0, x, y, z] = out[1, x, y, z] = out[2, x, y, z] = 0
                    continue
                za, zb = max(z - 1, 0), min(z + 1, nz - 1)
                sz = np.float32(0.5 / max(zb - za, 1))
                ax = ay = az = np.float32(0)
                power = np.float32(1e-6)
                for c in range(channels):
                    f, m = fixed[c], moved[c]
                    r = f[x, y, z] - m[x, y, z]
                    gx = sx * (f[xb, y, z] - f[xa, y, z] + m[xb, y, z] - m[xa, y, z])
                    gy = sy * (f[x, yb, z] - f[x, ya, z] + m[x, yb, z] - m[x, ya, z])
                    gz = sz * (f[x, y, zb] - f[x, y, za] + m[x, y, zb] - m[x, y, za])
                    ax += r * gx
                    ay += r * gy
                    az += r * gz
                    power += gx * gx + gy * gy + gz * gz + calm * r * r
                power = power / weight[x, y, z]
                out[0, x, y, z] = ax / power
                out[1, x, y, z] = ay / power
                out[2, x, y, z] = az / power
    return out


@compiled(parallel=True)
def agreement(fixed, moved, counted, n_images):  # type: ignore[no-untyped-def]
    """Sum over voxels of the mean product of images, less half the squared mismatch of other channels.

    Parameters
    ----------
    fixed, moved : (C, X, Y, Z) float32 arrays
        Features on one lattice; the first ``n_images`` are locally normalised images.
    counted : (X, Y, Z) float32 array
        Weight of each voxel.
    n_images : int
    """
    channels, nx, ny, nz = fixed.shape
    planes = np.zeros(nx)
    for x in numba.prange(nx):
        total = 0.0
        for y in range(ny):
            for z in range(nz):
                weight = counted[x, y, z]
                if weight == 0:
                    continue
                value = 0.0
                for c in range(n_images):
                    value += fixed[c, x, y, z] * moved[c, x, y, z]
                value /= n_images
                for c in range(n_images, channels):
                    off = moved[c, x, y, z] - fixed[c, x, y, z]
                    value -= 0.5 * off * off
                total += weight * value
        planes[x] = total
    return planes.sum()
