"""Linear layers of the same input in one run, with what follows them."""

import ctypes
import functools
import math

import numpy as np

from tinylm.bindings.cpu.library import LARGEST, Struct, as_weight, call, contiguous, library
from tinylm.bindings.cpu.rotary import rotary_layout
from tinylm.engine.kernels import kernel
from tinylm.engine.products import products_mode
from tinylm.ops.rotary_angles import cos_and_sin


class JointLayer(Struct):
    _fields_ = tuple((name, ctypes.c_int64) for name in ("outputs", "offset", "format"))


class JointLinearSizes(Struct):
    _fields_ = (*((name, ctypes.c_int64) for name in ("rows", "inputs", "stride")), ("layers", JointLayer * 3))


@functools.lru_cache(maxsize=256)
def _sizes(rows, inputs, stride, *layers):
    """Returns the struct for layers of (outputs, offset, format). A model calls with the same ones again and again."""
    return JointLinearSizes(rows=rows, inputs=inputs, stride=stride, layers=layers)


def _fits(x, *layers):
    """Returns whether weights and biases are those of linear layers of x, and small enough for a product."""
    if any(w.ndim != 2 or w.shape[1:] != x.shape[-1:] or (b is not None and b.shape != w.shape[:1]) for w, b in layers):
        return False
    return max(math.prod(x.shape[:-1]), *(n for w, _ in layers for n in w.shape)) <= LARGEST and library() is not None


def _contiguous(*arrays):
    return [None if a is None else contiguous(a) for a in arrays]


def _gradients(sizes, rounded, x, weights, arrays, biases, dz, frozen):
    """Returns those of x, the three weights, given as pointers and as arrays, and the three biases, None for what is missing or frozen."""
    dx = np.empty(x.shape, np.float32)
    dparameters = [None if frozen or p is None else np.empty(p.shape, np.float32) for p in (*arrays, *biases)]
    call("joint_linear_backward", sizes, rounded, x, *weights, dz, dx, *dparameters)
    return dx, *dparameters


@kernel("swiglu_linear", device="cpu", reads_stored=True)
def swiglu_linear(x, gate, up, gate_bias=None, up_bias=None, /, *, frozen=False):
    if gate.shape != up.shape or not _fits(x, (gate, gate_bias), (up, up_bias)):
        return NotImplemented
    inputs, outputs = x.shape[-1], gate.shape[0]
    shape = *x.shape[:-1], outputs
    y, z = np.empty(shape, np.float32), np.empty((2, *shape), np.float32)
    weights, (first, second, _) = zip(*map(as_weight, (gate, up, None)), strict=True)
    sizes = _sizes(math.prod(x.shape[:-1]), inputs, outputs, (outputs, 0, first), (outputs, y.size, second), (0, 0, 0))
    x_, rounded = contiguous(x), products_mode.rounded
    biases = _contiguous(gate_bias, up_bias, None)
    call("joint_linear_forward", sizes, rounded, x_, *weights, *biases, z, y)

    def vjp(dy):
        dz = np.empty_like(z)
        call("swiglu_backward", y.size, z[0], z[1], contiguous(dy), dz[0], dz[1])
        dx, dgate, dup, _, dgate_bias, dup_bias, _ = _gradients(sizes, rounded, x_, weights, (gate, up, None), biases, dz, frozen)
        return dx, dgate, dup, dgate_bias, dup_bias

    return y, vjp


@kernel("rotary_heads", device="cpu", reads_stored=True)
def rotary_heads(
    x, q_weight, k_weight, v_weight, q_bias=None, k_bias=None, v_bias=None, /, *, frequencies, start=0, pairing="half", frozen=False
):
    width = 2 * len(frequencies)
    if x.ndim != 3 or not width or not _fits(x, (q_weight, q_bias), (k_weight, k_bias), (v_weight, v_bias)):
        return NotImplemented
    (batch, steps, inputs), queries, keys, values = x.shape, q_weight.shape[0], k_weight.shape[0], v_weight.shape[0]
    if queries % width or keys % width or values % width:
        return NotImplemented
    row = queries + keys + values
    first_key, first_value, heads = queries // width, (queries + keys) // width, row // width
    z = np.empty((batch, steps, heads, width), np.float32)

    def heads_of(whole):  # (N, T, heads, D) -> q, k and v, each (N, its heads, T, D)
        whole = whole.transpose(0, 2, 1, 3)
        return whole[:, :first_key], whole[:, first_key:first_value], whole[:, first_value:]

    made = heads_of(z)
    cos, sin = cos_and_sin(made[0], frequencies, start, pairing)
    interleaved = pairing == "interleaved"
    weights, (of_q, of_k, of_v) = zip(*map(as_weight, (q_weight, k_weight, v_weight)), strict=True)
    sizes = _sizes(batch * steps, inputs, row, (queries, 0, of_q), (keys, queries, of_k), (values, queries + keys, of_v))
    turned = rotary_layout(batch, first_value, steps, width // 2, made[0].strides, made[0].strides)
    x_, rounded = contiguous(x), products_mode.rounded
    biases = _contiguous(q_bias, k_bias, v_bias)
    call("rotary_heads_forward", sizes, turned, rounded, x_, *weights, *biases, cos, sin, interleaved, z)

    def vjp(*cotangents):
        dz = np.empty(z.shape, np.float32)
        for part, dy in zip(heads_of(dz), cotangents, strict=True):
            part[...] = dy
        call("rotary", turned, dz, cos, sin, -1, interleaved, dz)
        return _gradients(sizes, rounded, x_, weights, (q_weight, k_weight, v_weight), biases, dz, frozen)

    return made, vjp
