"""A block of the ConvNet on a whole batch: parallel over images, a loop over channels of `planes`.

    for each image n and channel c:  out[n, c] = value(z[n, c]), and so on, as `planes` says

The kernels of later blocks get z, which torch convolved. The `first_` block's z is not stored: it
is convolved again from the image, which has only one or a few channels, whenever it is needed. The
bias of a convolution before a norm changes nothing; it does not occur, and its derivatives are 0.

Notation, which holds for the arguments of all kernels; those at the end are written:

    z, zt                     (N, C, H, W)          a block's convolution, and its tangent
    padded                    (N, I, H + 2, W + 2)  images with a border of zeros
    weight, weight_t          (C, I, 3, 3)          filters, and their tangents
    turned, turned_t          (C, I, 1, 3, 3)       filters turned by 180 degrees
    scale, shift, scale_t ... (C,)                  of the norm, and their tangents
    mean, r                   (N, C)                of each plane
    stats                     (4, N, C)             mean, r, and the tangents of both
    open                      (N, C, H // 2, W // 2)  bytes; `held`: read, not written
    out, pooled, pooled_t     (N, C, H // 2, W // 2)  output, and the derivative in it
    more                      as zt or pooled_t     added to it first
    by_scale, by_shift        (N, C)                derivatives, by image
    by_weight                 (N, C, I, 3, 3)       derivatives, by image
    by_image                  (N, I, H, W)          derivative in the image, or its tangent
"""

from __future__ import annotations

import numba
import numpy as np

from medddist.method.fast import planes

PLANES = "eaedf394dd06c414"  # digest of planes.py; see there
compiled = numba.njit(parallel=True, fastmath=planes.FAST, cache=True)


@compiled
def value(z, scale, shift, out, mean, r):
    """Compute a block's output.

    Args: as above.
    """
    for n in numba.prange(z.shape[0]):
        for c in range(z.shape[1]):
            mean[n, c], r[n, c] = planes.value(z[n, c], scale[c], shift[c], out[n, c])


@compiled
def derivative(z, mean, r, scale, shift, pooled, out, by_scale, by_shift):
    """Compute the derivative in z from that in the output.

    Args: as above.
    """
    for n in numba.prange(z.shape[0]):
        u = np.empty(z.shape[2:], z.dtype)
        for c in range(z.shape[1]):
            by_scale[n, c], by_shift[n, c] = planes.derivative(
                z[n, c], mean[n, c], r[n, c], scale[c], shift[c], pooled[n, c], u, out[n, c]
            )


@compiled
def noted_value(z, scale, shift, open, held, out, mean, r):
    """Compute a block's output, and record or hold which ReLUs are open.

    Args: as above.
    """
    for n in numba.prange(z.shape[0]):
        for c in range(z.shape[1]):
            mean[n, c], r[n, c] = planes.noted_value(
                z[n, c], scale[c], shift[c], open[n, c], held, out[n, c]
            )


@compiled
def derivative_held(z, mean, r, scale, open, pooled, out, by_scale, by_shift):
    """Compute the derivative in z where `open` says what passes.

    Args: as above.
    """
    for n in numba.prange(z.shape[0]):
        u = np.empty(z.shape[2:], z.dtype)
        for c in range(z.shape[1]):
            planes.unpool_held(open[n, c], pooled[n, c], u)
            by_scale[n, c], by_shift[n, c] = planes.through_norm(
                z[n, c], mean[n, c], r[n, c], scale[c], u, out[n, c]
            )


@compiled
def value_tangent(z, zt, more, scale, shift, scale_t, shift_t, out, out_t, stats):
    """Compute a block's output and its tangent.

    Args: as above.
    """
    for n in numba.prange(z.shape[0]):
        for c in range(z.shape[1]):
            planes.combine_further(
                more[n, c], z.dtype.type(1), more[n, c], z.dtype.type(0), zt[n, c]
            )
            m, r = planes.value(z[n, c], scale[c], shift[c], out[n, c])
            mt, rt = planes.value_tangent(
                z[n, c], zt[n, c], m, r, scale[c], shift[c], scale_t[c], shift_t[c], out_t[n, c]
            )
            stats[0, n, c], stats[1, n, c], stats[2, n, c], stats[3, n, c] = m, r, mt, rt


@compiled
def derivative_tangent(
    z, zt, stats, scale, shift, scale_t, pooled, pooled_t, more, out, out_t, by_scale, by_shift
):
    """Compute the derivative in z and its tangent; by_scale and by_shift are tangents.

    Args: as above.
    """
    one, zero = z.dtype.type(1), z.dtype.type(0)
    for n in numba.prange(z.shape[0]):
        u, ut = np.empty(z.shape[2:], z.dtype), np.empty(z.shape[2:], z.dtype)
        for c in range(z.shape[1]):
            planes.combine_further(more[n, c], one, more[n, c], zero, pooled_t[n, c])
            m, r, mt, rt = stats[0, n, c], stats[1, n, c], stats[2, n, c], stats[3, n, c]
            s, b, st, p, pt = scale[c], shift[c], scale_t[c], pooled[n, c], pooled_t[n, c]
            by_scale[n, c], by_shift[n, c] = planes.derivative_tangent(
                z[n, c], zt[n, c], m, r, mt, rt, s, b, st, p, pt, u, ut, out[n, c], out_t[n, c]
            )


# ---- the first block, whose z is convolved again ------------------------------------------------


@compiled
def first_value(padded, weight, scale, shift, out, mean, r):
    """Compute the first block's output.

    Args: as above.
    """
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        for c in range(weight.shape[0]):
            planes.convolve(padded[n], weight[c], z, False)
            mean[n, c], r[n, c] = planes.value(z, scale[c], shift[c], out[n, c])


@compiled
def first_derivative(padded, weight, mean, r, scale, shift, pooled, by_weight, by_scale, by_shift):
    """Compute the derivatives in the first block's parameters.

    Args: as above.
    """
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        u, g = np.empty_like(z), np.zeros(padded.shape[2:], padded.dtype)
        for c in range(weight.shape[0]):
            planes.convolve(padded[n], weight[c], z, False)
            by_scale[n, c], by_shift[n, c] = planes.derivative(
                z, mean[n, c], r[n, c], scale[c], shift[c], pooled[n, c], u, g
            )
            planes.correlate(padded[n], g, by_weight[n, c])


@compiled
def first_noted_value(padded, weight, scale, shift, open, held, out, mean, r):
    """Compute the first block's output, and record or hold which ReLUs are open.

    Args: as above.
    """
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        for c in range(weight.shape[0]):
            planes.convolve(padded[n], weight[c], z, False)
            mean[n, c], r[n, c] = planes.noted_value(
                z, scale[c], shift[c], open[n, c], held, out[n, c]
            )


@compiled
def first_derivative_held(
    padded, weight, turned, mean, r, scale, open, pooled, by_weight, by_scale, by_shift, by_image
):
    """Compute the first block's derivatives where `open` says what passes.

    Args: as above.
    """
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        u, g = np.empty_like(z), np.zeros((1,) + padded.shape[2:], padded.dtype)
        by_image[n] = padded.dtype.type(0)
        for c in range(weight.shape[0]):
            planes.convolve(padded[n], weight[c], z, False)
            planes.unpool_held(open[n, c], pooled[n, c], u)
            by_scale[n, c], by_shift[n, c] = planes.through_norm(
                z, mean[n, c], r[n, c], scale[c], u, g[0]
            )
            planes.correlate(padded[n], g[0], by_weight[n, c])
            for k in range(by_image.shape[1]):
                planes.convolve(g, turned[c, k], by_image[n, k], True)


@compiled
def first_value_tangent(
    padded, weight, weight_t, scale, shift, scale_t, shift_t, out, out_t, stats
):
    """Compute the first block's output and its tangent.

    Args: as above.
    """
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        zt = np.empty_like(z)
        for c in range(weight.shape[0]):
            planes.convolve(padded[n], weight[c], z, False)
            planes.convolve(padded[n], weight_t[c], zt, False)
            m, r = planes.value(z, scale[c], shift[c], out[n, c])
            mt, rt = planes.value_tangent(
                z, zt, m, r, scale[c], shift[c], scale_t[c], shift_t[c], out_t[n, c]
            )
            stats[0, n, c], stats[1, n, c], stats[2, n, c], stats[3, n, c] = m, r, mt, rt


@compiled
def first_derivative_tangent(
    padded,
    weight,
    weight_t,
    turned,
    turned_t,
    stats,
    scale,
    shift,
    scale_t,
    pooled,
    pooled_t,
    more,
    by_weight,
    by_scale,
    by_shift,
    by_image,
):
    """Compute the tangents of the derivatives in the first block's parameters and in the images.

    Args: as above.
    """
    one, zero = padded.dtype.type(1), padded.dtype.type(0)
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        zt, u, ut = np.empty_like(z), np.empty_like(z), np.empty_like(z)
        g = np.zeros((1,) + padded.shape[2:], padded.dtype)
        gt = np.zeros((1,) + padded.shape[2:], padded.dtype)
        by_image[n] = zero
        for c in range(weight.shape[0]):
            planes.convolve(padded[n], weight[c], z, False)
            planes.convolve(padded[n], weight_t[c], zt, False)
            planes.combine_further(more[n, c], one, more[n, c], zero, pooled_t[n, c])
            m, r, mt, rt = stats[0, n, c], stats[1, n, c], stats[2, n, c], stats[3, n, c]
            s, b, st, p, pt = scale[c], shift[c], scale_t[c], pooled[n, c], pooled_t[n, c]
            by_scale[n, c], by_shift[n, c] = planes.derivative_tangent(
                z, zt, m, r, mt, rt, s, b, st, p, pt, u, ut, g[0], gt[0]
            )
            planes.correlate(padded[n], gt[0], by_weight[n, c])
            for k in range(by_image.shape[1]):
                planes.convolve(gt, turned[c, k], by_image[n, k], True)
                planes.convolve(g, turned_t[c, k], by_image[n, k], True)
