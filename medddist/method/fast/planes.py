"""A block of the ConvNet on one plane: the loops that numba compiles, inlined into `kernels`.

    value        n = c r              y = scale n + shift    out = pool(relu(y))
    derivative   u = [y > 0] unpool(G)        Z = scale r (u - mean(u) - n mean(u n))

A block is a 3x3 convolution z, instance norm, ReLU and 2x2 average pooling; a plane is one channel
of one image, which stays in the processor's cache. These functions compute the part after the
convolution: its value, its derivative, and the tangent of each along a direction in the parameters
(an added t), which is the product rule.

Where value and derivative are both needed, `open` records which y are positive: one byte for each
window of the pooling, one bit for each of its four. Or `open` is held: y passes where `open` says
so, whatever its sign.

Notation: c = z - mean(z), r = (mean(c^2) + epsilon)^(-1/2), G and Z the derivatives in out and z,
a = scale r and b = shift - a mean(z), so that y = a z + b; m the mean of z. Planes z and u are
(H, W), and pooled ones (H // 2, W // 2).

Numba's cache on disk notices changes only in a kernel's own file. So whoever changes this file
writes its new digest to `kernels.PLANES`, which a test compares.
"""

from __future__ import annotations

import numba
import numpy as np

EPSILON = 1e-5  # torch's own for GroupNorm
FAST = {"contract", "reassoc", "nsz"}
plane_function = numba.njit(fastmath=FAST, inline="never", cache=True)


@plane_function
def mean(z):
    """Average a plane."""
    total, flat = z.dtype.type(0), z.reshape(z.size)
    for j in range(flat.size):
        total += flat[j]
    return total / z.dtype.type(z.size)


@plane_function
def mean_product(z, m, x, k):
    """Average the product (z - m) (x - k).

    Args: planes z and x, numbers m and k.
    """
    total, flat, other = z.dtype.type(0), z.reshape(z.size), x.reshape(x.size)
    for j in range(flat.size):
        total += (flat[j] - m) * (other[j] - k)
    return total / z.dtype.type(z.size)


@plane_function
def pool(z, a, b, out):
    """Write relu(a z + b), pooled.

    Args: plane z, numbers a and b; writes out.
    """
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
def bit(bits, k):
    """Return bit k of a byte, as 0 or 1 in 8 bits: wider integers keep loops from vectorising."""
    return np.uint8((bits >> np.uint8(k)) & np.uint8(1))


@plane_function
def note_open(z, a, b, open):
    """Record which ReLUs are open: of each window, bits 0 to 3 are upper left to lower right.

    Args: plane z, numbers a and b; writes open, [a z + b > 0].
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
def pool_held(z, a, b, open, out):
    """Write pool([open] (a z + b)).

    Args: plane z, numbers a and b, open; writes out.
    """
    kind = z.dtype.type
    quarter = kind(0.25)
    for i in range(out.shape[0]):
        top, low, bits, row = z[2 * i], z[2 * i + 1], open[i], out[i]
        for j in range(row.size):
            row[j] = quarter * (
                (a * top[2 * j] + b) * kind(bit(bits[j], 0))
                + (a * top[2 * j + 1] + b) * kind(bit(bits[j], 1))
                + (a * low[2 * j] + b) * kind(bit(bits[j], 2))
                + (a * low[2 * j + 1] + b) * kind(bit(bits[j], 3))
            )


@plane_function
def unpool_held(open, pooled, u):
    """Write [open] unpool(pooled) to u; 0 in an odd last row or column, which pooling omits."""
    kind = u.dtype.type
    quarter = kind(0.25)
    if u.shape[0] % 2 or u.shape[1] % 2:
        u[:] = kind(0)
    for i in range(pooled.shape[0]):
        top, low, bits, row = u[2 * i], u[2 * i + 1], open[i], pooled[i]
        for j in range(row.size):
            g = quarter * row[j]
            top[2 * j] = g * kind(bit(bits[j], 0))
            top[2 * j + 1] = g * kind(bit(bits[j], 1))
            low[2 * j] = g * kind(bit(bits[j], 2))
            low[2 * j + 1] = g * kind(bit(bits[j], 3))


@plane_function
def pool_tangent(z, zt, a, b, p, q, s, out):
    """Write pool([a z + b > 0] (p z + q zt + s)).

    Args: planes z and zt, numbers a to s; writes out.
    """
    zero, quarter = z.dtype.type(0), z.dtype.type(0.25)
    for i in range(out.shape[0]):
        row = out[i]
        for j in range(row.size):
            row[j] = zero
        for k in range(2):
            y, yt = z[2 * i + k], zt[2 * i + k]
            for j in range(row.size):
                left = p * y[2 * j] + q * yt[2 * j] + s
                right = p * y[2 * j + 1] + q * yt[2 * j + 1] + s
                row[j] += quarter * (
                    (left if a * y[2 * j] + b > zero else zero)
                    + (right if a * y[2 * j + 1] + b > zero else zero)
                )


@plane_function
def unpool(z, a, b, pooled, u):
    """Write pooled, spread to where a z + b > 0; 0 in an odd last row or column.

    Args: plane z, numbers a and b, pooled; writes u.
    """
    zero, quarter = z.dtype.type(0), z.dtype.type(0.25)
    if u.shape[0] % 2 or u.shape[1] % 2:
        u[:] = zero
    spread = np.empty(2 * pooled.shape[1], z.dtype)
    for i in range(pooled.shape[0]):
        row = pooled[i]
        for j in range(row.size):
            spread[2 * j] = spread[2 * j + 1] = quarter * row[j]
        for k in range(2):
            y, to = z[2 * i + k], u[2 * i + k]
            for j in range(spread.size):
                to[j] = spread[j] if a * y[j] + b > zero else zero


@plane_function
def combine(u, f, z, g, h, out):
    """Write a linear combination, f u + g z + h, inside the border of out if it has one.

    Args: planes u and z, numbers f, g and h; writes out.
    """
    border = (out.shape[0] - u.shape[0]) // 2
    for i in range(u.shape[0]):
        left, right, to = u[i], z[i], out[i + border][border:]
        for j in range(left.size):
            to[j] = f * left[j] + g * right[j] + h


@plane_function
def combine_further(u, f, z, g, out):
    """Add a linear combination, f u + g z, inside the border of out if it has one.

    Args: planes u and z, numbers f and g; adds to out.
    """
    border = (out.shape[0] - u.shape[0]) // 2
    for i in range(u.shape[0]):
        left, right, to = u[i], z[i], out[i + border][border:]
        for j in range(left.size):
            to[j] += f * left[j] + g * right[j]


@plane_function
def convolve(padded, weight, out, add):
    """Convolve I padded planes with one filter each, and sum.

    Args: padded (I, H + 2, W + 2), weight (I, 3, 3); writes out (H, W), or adds to it if `add`.
    """
    for k in range(padded.shape[0]):
        w = weight[k]
        a, b, c = w[0, 0], w[0, 1], w[0, 2]
        d, e, f = w[1, 0], w[1, 1], w[1, 2]
        g, h, o = w[2, 0], w[2, 1], w[2, 2]
        for i in range(out.shape[0]):
            p, q, r, to = padded[k, i], padded[k, i + 1], padded[k, i + 2], out[i]
            if k == 0 and not add:
                for j in range(to.size):
                    to[j] = (
                        (a * p[j] + b * p[j + 1] + c * p[j + 2])
                        + (d * q[j] + e * q[j + 1] + f * q[j + 2])
                        + (g * r[j] + h * r[j + 1] + o * r[j + 2])
                    )
            else:
                for j in range(to.size):
                    to[j] += (
                        (a * p[j] + b * p[j + 1] + c * p[j + 2])
                        + (d * q[j] + e * q[j + 1] + f * q[j + 2])
                        + (g * r[j] + h * r[j + 1] + o * r[j + 2])
                    )


@plane_function
def correlate(padded, g, out):
    """Write the derivative in the filters: sums of g times planes moved by -1, 0 or 1 pixel.

    Rows follow each other in one long sum; where it runs over an edge, g is 0.

    Args: padded (I, H + 2, W + 2), g (H + 2, W + 2) with a border of 0; writes out (I, 3, 3).
    """
    zero, wide = g.dtype.type(0), g.shape[1]
    inner = g.reshape(g.size)[wide + 1 : g.size - wide - 1]  # from the first pixel to the last
    for k in range(padded.shape[0]):
        x = padded[k].reshape(g.size)
        for a in range(3):
            left, middle, right = zero, zero, zero
            p, q, r = x[a * wide :], x[a * wide + 1 :], x[a * wide + 2 :]
            for j in range(inner.size):
                left += inner[j] * p[j]
                middle += inner[j] * q[j]
                right += inner[j] * r[j]
            out[k, a, 0], out[k, a, 1], out[k, a, 2] = left, middle, right


@plane_function
def value(z, scale, shift, out):
    """Compute a block after its convolution; return mean(z) and r.

    Args: plane z, scale, shift; writes out.
    """
    m = mean(z)
    r = z.dtype.type(1) / np.sqrt(mean_product(z, m, z, m) + z.dtype.type(EPSILON))
    pool(z, scale * r, shift - scale * r * m, out)
    return m, r


@plane_function
def noted_value(z, scale, shift, open, held, out):
    """Compute `value`; record `open`, or if `held` let pass what it says.

    Args: plane z, scale, shift; writes out, and open unless held.
    """
    m = mean(z)
    r = z.dtype.type(1) / np.sqrt(mean_product(z, m, z, m) + z.dtype.type(EPSILON))
    a, b = scale * r, shift - scale * r * m
    if held:
        pool_held(z, a, b, open, out)
    else:
        note_open(z, a, b, open)
        pool(z, a, b, out)
    return m, r


@plane_function
def value_tangent(z, zt, m, r, scale, shift, scale_t, shift_t, out):
    """Compute the tangent of `value`; return mean(zt) and the tangent of r.

    Args: z and scalars as `value` used and returned them, and their tangents; writes out.
    """
    mt = mean(zt)
    rt = -r * r * r * mean_product(z, m, zt, mt)
    p, q = scale_t * r + scale * rt, scale * r  # yt = p c + q ct + shift_t
    pool_tangent(z, zt, q, shift - q * m, p, q, shift_t - p * m - q * mt, out)
    return mt, rt


@plane_function
def derivative(z, m, r, scale, shift, pooled, u, out):
    """Compute the derivative Z in z from that in the output; return those in scale and shift.

    Args: as in `value`, G as pooled, u for intermediate values; writes out.
    """
    unpool(z, scale * r, shift - scale * r * m, pooled, u)
    return through_norm(z, m, r, scale, u, out)


@plane_function
def through_norm(z, m, r, scale, u, out):
    """Compute Z from u; return the derivatives in scale and shift.

    Args: as in `derivative`; writes out.
    """
    kind = z.dtype.type
    a = scale * r
    level = mean(u)
    moment = mean_product(z, m, u, kind(0)) * r  # mean(u n)
    slope = -a * r * moment
    combine(u, a, z, slope, -a * level - slope * m, out)
    return moment * kind(z.size), level * kind(z.size)


@plane_function
def derivative_tangent(
    z, zt, m, r, mt, rt, scale, shift, scale_t, pooled, pooled_t, u, ut, out, out_t
):
    """Compute `derivative` and its tangent; return the tangents of those in scale and shift.

    With n = c r, nt = ct r + c rt, v = mean(u), vt = mean(ut), q = mean(u n) and
    qt = mean(ut n + u nt), Z is scale r (u - v - n q), and Zt follows by the product rule.

    Args: as in `derivative`, and the tangents of all; writes out and out_t.
    """
    kind = z.dtype.type
    zero = kind(0)
    a = scale * r
    b = shift - a * m
    unpool(z, a, b, pooled, u)
    unpool(z, a, b, pooled_t, ut)
    v, vt = mean(u), mean(ut)
    uc, utc = mean_product(z, m, u, zero), mean_product(z, m, ut, zero)
    uct = mean_product(zt, mt, u, zero)
    q = uc * r
    qt = utc * r + uct * r + uc * rt
    slope = -a * r * q
    combine(u, a, z, slope, -a * v - slope * m, out)
    at = scale_t * r + scale * rt
    # Zt = at (u - v - n q) + a (ut - vt - nt q - n qt)
    on_c = -at * r * q - a * (rt * q + r * qt)
    on_ct = -a * r * q
    combine(u, at, z, on_c, -at * v - a * vt - on_c * m - on_ct * mt, out_t)
    combine_further(ut, a, zt, on_ct, out_t)
    count = kind(z.size)
    return qt * count, vt * count
