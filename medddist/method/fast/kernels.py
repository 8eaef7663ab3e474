"""Numba kernels of a ConvNet block, a plane of one image and channel at a time, so that each plane
stays in cache.

A block is a 3x3 convolution z, instance norm with affine y = scale (z - mean) r + shift, ReLU and
2x2 average pooling. Four things are asked of the part after the convolution: its value, its
derivative, and the tangent of each along a direction in the parameters. With c = z - mean(z) and r
= (mean(c^2) + epsilon)^(-1/2),

    value        n = c r                 y = scale n + shift                       out =
    pool(relu(y)) derivative   u = [y > 0] unpool(G)   Z = scale r (u - mean(u) - n mean(u n))

of which the tangents (an added t) are the product rule, written out below. The first block's z is
not stored at all: it is convolved anew from the image, which has one channel or a few, whenever it
is needed.

Where value and derivative are asked for, what is positive is noted in `open`, a byte for each of
the pooling's windows with a bit for each of its four; or it is held: y passes where `open` says so,
whatever its sign.

The bias of a convolution before the norm changes nothing, so it does not occur here, and its
derivatives are zero.
"""

from __future__ import annotations

import numba
import numpy as np

EPSILON = 1e-5  # torch's own for GroupNorm
_FAST = {"contract", "reassoc", "nsz"}
compiled = numba.njit(parallel=True, fastmath=_FAST, cache=True)
plane_function = numba.njit(fastmath=_FAST, inline="never", cache=True)


# ---- one plane -----------------------------------------------------------------------------------


@plane_function
def _mean(z):
    total = z.dtype.type(0)
    for i in range(z.shape[0]):
        row = z[i]
        for j in range(row.size):
            total += row[j]
    return total / z.dtype.type(z.size)


@plane_function
def _mean_product(z, m, x, k):
    """The mean of (z - m) (x - k)."""
    total = z.dtype.type(0)
    for i in range(z.shape[0]):
        row, other = z[i], x[i]
        for j in range(row.size):
            total += (row[j] - m) * (other[j] - k)
    return total / z.dtype.type(z.size)


@plane_function
def _pool(z, a, b, out):
    """Out = pool(relu(a z + b))."""
    zero, quarter = z.dtype.type(0), z.dtype.type(0.25)
    for i in range(out.shape[0]):
        top, low, row = z[2 * i], z[2 * i + 1], out[i]
        for j in range(row.size):
            row[j] = quarter * (
                max(a * top[2 * j] + b, zero)
                + max(a * top[2 * j + 1] + b, zero)
                + max(a * low[2 * j] + b, zero)
                + max(a * low[2 * j + 1] + b, zero)
            )


@numba.njit
def _bit(bits, k):
    """Bit k as 0 or 1; of 8 bits all along, for with numba's wider integers a loop is not done in
    vectors.
    """
    return np.uint8((bits >> np.uint8(k)) & np.uint8(1))


@plane_function
def _note(z, a, b, open):
    """Which of a z + b are positive: of a window's upper left, upper right, lower left and lower
    right the bits 0 to 3.
    """
    zero, none = z.dtype.type(0), np.uint8(0)
    for i in range(open.shape[0]):
        row = open[i]
        for k in range(2):
            y, left_bit, right_bit = z[2 * i + k], np.uint8(1 << 2 * k), np.uint8(2 << 2 * k)
            for j in range(row.size):
                left, right = a * y[2 * j] + b, a * y[2 * j + 1] + b
                bits = (left_bit if left > zero else none) | (right_bit if right > zero else none)
                row[j] = bits if k == 0 else row[j] | bits


@plane_function
def _pool_held(z, a, b, open, out):
    """Out = pool([open] (a z + b))."""
    kind = z.dtype.type
    quarter = kind(0.25)
    for i in range(out.shape[0]):
        top, low, bits, row = z[2 * i], z[2 * i + 1], open[i], out[i]
        for j in range(row.size):
            row[j] = quarter * (
                (a * top[2 * j] + b) * kind(_bit(bits[j], 0))
                + (a * top[2 * j + 1] + b) * kind(_bit(bits[j], 1))
                + (a * low[2 * j] + b) * kind(_bit(bits[j], 2))
                + (a * low[2 * j + 1] + b) * kind(_bit(bits[j], 3))
            )


@plane_function
def _unpool_held(open, pooled, u):
    """U = [open] unpool(pooled); zero in an odd last row or column, which pooling leaves out."""
    kind = u.dtype.type
    quarter = kind(0.25)
    if u.shape[0] % 2 or u.shape[1] % 2:
        u[:] = kind(0)
    for i in range(pooled.shape[0]):
        top, low, bits, row = u[2 * i], u[2 * i + 1], open[i], pooled[i]
        for j in range(row.size):
            g = quarter * row[j]
            top[2 * j] = g * kind(_bit(bits[j], 0))
            top[2 * j + 1] = g * kind(_bit(bits[j], 1))
            low[2 * j] = g * kind(_bit(bits[j], 2))
            low[2 * j + 1] = g * kind(_bit(bits[j], 3))


@plane_function
def _pool_tangent(z, zt, a, b, p, q, s, out):
    """Out = pool([a z + b > 0] (p z + q zt + s))."""
    zero, quarter = z.dtype.type(0), z.dtype.type(0.25)
    for i in range(out.shape[0]):
        row = out[i]
        for j in range(row.size):
            row[j] = zero
        for k in range(2):
            y, yt = z[2 * i + k], zt[2 * i + k]
            for j in range(row.size):
                left, right = (
                    p * y[2 * j] + q * yt[2 * j] + s,
                    p * y[2 * j + 1] + q * yt[2 * j + 1] + s,
                )
                row[j] += quarter * (
                    (left if a * y[2 * j] + b > zero else zero)
                    + (right if a * y[2 * j + 1] + b > zero else zero)
                )


@plane_function
def _unpool(z, a, b, pooled, u):
    """U = [a z + b > 0] unpool(pooled); zero in an odd last row or column, which pooling leaves
    out.
    """
    zero, quarter = z.dtype.type(0), z.dtype.type(0.25)
    if u.shape[0] % 2 or u.shape[1] % 2:
        u[:] = zero
    for i in range(pooled.shape[0]):
        row = pooled[i]
        for k in range(2):
            y, to = z[2 * i + k], u[2 * i + k]
            for j in range(row.size):
                g = quarter * row[j]
                to[2 * j] = g if a * y[2 * j] + b > zero else zero
                to[2 * j + 1] = g if a * y[2 * j + 1] + b > zero else zero


@plane_function
def _combine(u, f, z, g, h, out):
    """Out = f u + g z + h; out may be padded by a border that is left alone."""
    border = (out.shape[0] - u.shape[0]) // 2
    for i in range(u.shape[0]):
        one, two, to = u[i], z[i], out[i + border]
        for j in range(one.size):
            to[j + border] = f * one[j] + g * two[j] + h


@plane_function
def _combine_further(u, f, z, g, out):
    """Out += f u + g z."""
    border = (out.shape[0] - u.shape[0]) // 2
    for i in range(u.shape[0]):
        one, two, to = u[i], z[i], out[i + border]
        for j in range(one.size):
            to[j + border] += f * one[j] + g * two[j]


@plane_function
def _convolve(padded, weight, out, add):
    """Out = sum over k of weight[k] * padded[k], or added to out; padded (I, H + 2, W + 2), weight
    (I, 3, 3), out (H, W).
    """
    for k in range(padded.shape[0]):
        w = weight[k]
        a, b, c, d, e, f, g, h, l = (
            w[0, 0],
            w[0, 1],
            w[0, 2],
            w[1, 0],
            w[1, 1],
            w[1, 2],
            w[2, 0],
            w[2, 1],
            w[2, 2],
        )
        for i in range(out.shape[0]):
            p, q, r, to = padded[k, i], padded[k, i + 1], padded[k, i + 2], out[i]
            if k == 0 and not add:
                for j in range(to.size):
                    to[j] = (
                        (a * p[j] + b * p[j + 1] + c * p[j + 2])
                        + (d * q[j] + e * q[j + 1] + f * q[j + 2])
                        + (g * r[j] + h * r[j + 1] + l * r[j + 2])
                    )
            else:
                for j in range(to.size):
                    to[j] += (
                        (a * p[j] + b * p[j + 1] + c * p[j + 2])
                        + (d * q[j] + e * q[j + 1] + f * q[j + 2])
                        + (g * r[j] + h * r[j + 1] + l * r[j + 2])
                    )


@plane_function
def _correlate(padded, g, out):
    """out[k, a, b] = sum of g times padded[k] moved by (a, b); g (H + 2, W + 2) with a border of
    zeros.
    """
    zero = g.dtype.type(0)
    height, width = g.shape[0] - 2, g.shape[1] - 2
    for k in range(padded.shape[0]):
        for a in range(3):
            left, middle, right = zero, zero, zero
            for i in range(height):
                row, x = g[i + 1], padded[k, i + a]
                for j in range(width):
                    left += row[j + 1] * x[j]
                    middle += row[j + 1] * x[j + 1]
                    right += row[j + 1] * x[j + 2]
            out[k, a, 0], out[k, a, 1], out[k, a, 2] = left, middle, right


@plane_function
def _value(z, scale, shift, out):
    """The block after its convolution; returns mean and r."""
    m = _mean(z)
    r = z.dtype.type(1) / np.sqrt(_mean_product(z, m, z, m) + z.dtype.type(EPSILON))
    _pool(z, scale * r, shift - scale * r * m, out)
    return m, r


@plane_function
def _noted_value(z, scale, shift, open, held, out):
    """`_value`, and `open` noted; or with `open` held."""
    m = _mean(z)
    r = z.dtype.type(1) / np.sqrt(_mean_product(z, m, z, m) + z.dtype.type(EPSILON))
    a, b = scale * r, shift - scale * r * m
    if held:
        _pool_held(z, a, b, open, out)
    else:
        _note(z, a, b, open)
        _pool(z, a, b, out)
    return m, r


@plane_function
def _value_tangent(z, zt, m, r, scale, shift, scale_t, shift_t, out):
    """The tangent of `_value`; returns mean(zt) and the tangent of r."""
    mt = _mean(zt)
    rt = -r * r * r * _mean_product(z, m, zt, mt)
    p, q = scale_t * r + scale * rt, scale * r  # yt = p c + q ct + shift_t
    _pool_tangent(z, zt, q, shift - q * m, p, q, shift_t - p * m - q * mt, out)
    return mt, rt


@plane_function
def _derivative(z, m, r, scale, shift, pooled, u, out):
    """The derivative in z, given that in the output;

    u is a scratch plane. Returns those in scale and shift.
    """
    _unpool(z, scale * r, shift - scale * r * m, pooled, u)
    return _through_norm(z, m, r, scale, u, out)


@plane_function
def _derivative_held(z, m, r, scale, open, pooled, u, out):
    """`_derivative` where `open` says what passes."""
    _unpool_held(open, pooled, u)
    return _through_norm(z, m, r, scale, u, out)


@plane_function
def _through_norm(z, m, r, scale, u, out):
    """Z of the module's text, from u; returns the derivatives in scale and shift."""
    kind = z.dtype.type
    a = scale * r
    level = _mean(u)
    moment = _mean_product(z, m, u, kind(0)) * r  # mean(u n)
    slope = -a * r * moment
    _combine(u, a, z, slope, -a * level - slope * m, out)
    return moment * kind(z.size), level * kind(z.size)


@plane_function
def _derivative_tangent(
    z, zt, m, r, mt, rt, scale, shift, scale_t, pooled, pooled_t, u, ut, out, out_t
):
    """`_derivative` and its tangent; returns the tangents of the derivatives in scale and shift.

    With n = c r and nt = ct r + c rt: v = mean(u), vt = mean(ut), q = mean(u n), qt = mean(ut n + u
    nt), Z = scale r (u - v - n q), and Zt is the product rule on it.
    """
    kind = z.dtype.type
    zero = kind(0)
    a = scale * r
    b = shift - a * m
    _unpool(z, a, b, pooled, u)
    _unpool(z, a, b, pooled_t, ut)
    v, vt = _mean(u), _mean(ut)
    uc, utc, uct = (
        _mean_product(z, m, u, zero),
        _mean_product(z, m, ut, zero),
        _mean_product(zt, mt, u, zero),
    )
    q = uc * r
    qt = utc * r + uct * r + uc * rt
    slope = -a * r * q
    _combine(u, a, z, slope, -a * v - slope * m, out)
    at = scale_t * r + scale * rt
    # Zt = at (u - v - n q) + a (ut - vt - nt q - n qt)
    on_c = -at * r * q - a * (rt * q + r * qt)
    on_ct = -a * r * q
    _combine(u, at, z, on_c, -at * v - a * vt - on_c * m - on_ct * mt, out_t)
    _combine_further(ut, a, zt, on_ct, out_t)
    count = kind(z.size)
    return qt * count, vt * count


# ---- blocks whose z is there ---------------------------------------------------------------------
# z (N, C, H, W); out, pooled (N, C, H // 2, W // 2); mean, r and derivatives in scale and shift (N,
# C).


@compiled
def value(z, scale, shift, out, mean, r):
    for n in numba.prange(z.shape[0]):
        for c in range(z.shape[1]):
            mean[n, c], r[n, c] = _value(z[n, c], scale[c], shift[c], out[n, c])


@compiled
def derivative(z, mean, r, scale, shift, pooled, out, by_scale, by_shift):
    for n in numba.prange(z.shape[0]):
        u = np.empty(z.shape[2:], z.dtype)
        for c in range(z.shape[1]):
            by_scale[n, c], by_shift[n, c] = _derivative(
                z[n, c], mean[n, c], r[n, c], scale[c], shift[c], pooled[n, c], u, out[n, c]
            )


@compiled
def noted_value(z, scale, shift, open, held, out, mean, r):
    for n in numba.prange(z.shape[0]):
        for c in range(z.shape[1]):
            mean[n, c], r[n, c] = _noted_value(
                z[n, c], scale[c], shift[c], open[n, c], held, out[n, c]
            )


@compiled
def derivative_held(z, mean, r, scale, open, pooled, out, by_scale, by_shift):
    for n in numba.prange(z.shape[0]):
        u = np.empty(z.shape[2:], z.dtype)
        for c in range(z.shape[1]):
            by_scale[n, c], by_shift[n, c] = _derivative_held(
                z[n, c], mean[n, c], r[n, c], scale[c], open[n, c], pooled[n, c], u, out[n, c]
            )


@compiled
def value_tangent(z, zt, more, scale, shift, scale_t, shift_t, out, out_t, stats):
    """Adds `more` to zt first; stats (4, N, C) holds mean, r, their tangents."""
    for n in numba.prange(z.shape[0]):
        for c in range(z.shape[1]):
            _combine_further(more[n, c], z.dtype.type(1), more[n, c], z.dtype.type(0), zt[n, c])
            m, r = _value(z[n, c], scale[c], shift[c], out[n, c])
            mt, rt = _value_tangent(
                z[n, c], zt[n, c], m, r, scale[c], shift[c], scale_t[c], shift_t[c], out_t[n, c]
            )
            stats[0, n, c], stats[1, n, c], stats[2, n, c], stats[3, n, c] = m, r, mt, rt


@compiled
def derivative_tangent(
    z, zt, stats, scale, shift, scale_t, pooled, pooled_t, more, out, out_t, by_scale, by_shift
):
    """Adds `more` to pooled_t first."""
    one, zero = z.dtype.type(1), z.dtype.type(0)
    for n in numba.prange(z.shape[0]):
        u, ut = np.empty(z.shape[2:], z.dtype), np.empty(z.shape[2:], z.dtype)
        for c in range(z.shape[1]):
            _combine_further(more[n, c], one, more[n, c], zero, pooled_t[n, c])
            by_scale[n, c], by_shift[n, c] = _derivative_tangent(
                z[n, c],
                zt[n, c],
                stats[0, n, c],
                stats[1, n, c],
                stats[2, n, c],
                stats[3, n, c],
                scale[c],
                shift[c],
                scale_t[c],
                pooled[n, c],
                pooled_t[n, c],
                u,
                ut,
                out[n, c],
                out_t[n, c],
            )


# ---- the first block, whose z is convolved anew --------------------------------------------------
# padded (N, I, H + 2, W + 2) images with a border of zeros; weight (C, I, 3, 3).


@compiled
def first_value(padded, weight, scale, shift, out, mean, r):
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        for c in range(weight.shape[0]):
            _convolve(padded[n], weight[c], z, False)
            mean[n, c], r[n, c] = _value(z, scale[c], shift[c], out[n, c])


@compiled
def first_derivative(padded, weight, mean, r, scale, shift, pooled, by_weight, by_scale, by_shift):
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        u, g = np.empty_like(z), np.zeros(padded.shape[2:], padded.dtype)
        for c in range(weight.shape[0]):
            _convolve(padded[n], weight[c], z, False)
            by_scale[n, c], by_shift[n, c] = _derivative(
                z, mean[n, c], r[n, c], scale[c], shift[c], pooled[n, c], u, g
            )
            _correlate(padded[n], g, by_weight[n, c])


@compiled
def first_noted_value(padded, weight, scale, shift, open, held, out, mean, r):
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        for c in range(weight.shape[0]):
            _convolve(padded[n], weight[c], z, False)
            mean[n, c], r[n, c] = _noted_value(z, scale[c], shift[c], open[n, c], held, out[n, c])


@compiled
def first_derivative_held(
    padded, weight, turned, mean, r, scale, open, pooled, by_weight, by_scale, by_shift, by_image
):
    """`turned` and by_image as below."""
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        u, g = np.empty_like(z), np.zeros((1,) + padded.shape[2:], padded.dtype)
        by_image[n] = padded.dtype.type(0)
        for c in range(weight.shape[0]):
            _convolve(padded[n], weight[c], z, False)
            by_scale[n, c], by_shift[n, c] = _derivative_held(
                z, mean[n, c], r[n, c], scale[c], open[n, c], pooled[n, c], u, g[0]
            )
            _correlate(padded[n], g[0], by_weight[n, c])
            for k in range(by_image.shape[1]):
                _convolve(g, turned[c, k], by_image[n, k], True)


@compiled
def first_value_tangent(
    padded, weight, weight_t, scale, shift, scale_t, shift_t, out, out_t, stats
):
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        zt = np.empty_like(z)
        for c in range(weight.shape[0]):
            _convolve(padded[n], weight[c], z, False)
            _convolve(padded[n], weight_t[c], zt, False)
            m, r = _value(z, scale[c], shift[c], out[n, c])
            mt, rt = _value_tangent(
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
    """`turned` (C, I, 1, 3, 3) are the weights turned by 180 degrees; by_image (N, I, H, W) is the
    tangent along the images.
    """
    one, zero = padded.dtype.type(1), padded.dtype.type(0)
    for n in numba.prange(padded.shape[0]):
        z = np.empty((padded.shape[2] - 2, padded.shape[3] - 2), padded.dtype)
        zt, u, ut = np.empty_like(z), np.empty_like(z), np.empty_like(z)
        g, gt = (
            np.zeros((1,) + padded.shape[2:], padded.dtype),
            np.zeros((1,) + padded.shape[2:], padded.dtype),
        )
        by_image[n] = zero
        for c in range(weight.shape[0]):
            _convolve(padded[n], weight[c], z, False)
            _convolve(padded[n], weight_t[c], zt, False)
            _combine_further(more[n, c], one, more[n, c], zero, pooled_t[n, c])
            by_scale[n, c], by_shift[n, c] = _derivative_tangent(
                z,
                zt,
                stats[0, n, c],
                stats[1, n, c],
                stats[2, n, c],
                stats[3, n, c],
                scale[c],
                shift[c],
                scale_t[c],
                pooled[n, c],
                pooled_t[n, c],
                u,
                ut,
                g[0],
                gt[0],
            )
            _correlate(padded[n], gt[0], by_weight[n, c])
            for k in range(by_image.shape[1]):
                _convolve(gt, turned[c, k], by_image[n, k], True)
                _convolve(g, turned_t[c, k], by_image[n, k], True)
