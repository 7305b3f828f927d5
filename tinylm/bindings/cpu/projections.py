"""Linear layers of the same input in one run, joined with what follows them."""

import math

import numpy as np

from tinylm.bindings.cpu.heads import numbers, strides
from tinylm.bindings.cpu.library import LARGEST, Strided, call, contiguous, library
from tinylm.kernel_registry import kernel
from tinylm.rotary_angles import cos_and_sin


def _fits(x, weights, biases):
    """Whether the shapes are those of linear layers of x, and a product can count them."""
    inputs = x.shape[-1]
    if any(w.ndim != 2 or w.shape[1] != inputs or w.shape[0] > LARGEST for w in weights):
        return False
    if any(b is not None and b.shape != w.shape[:1] for w, b in zip(weights, biases, strict=True)):
        return False
    return inputs <= LARGEST and math.prod(x.shape[:-1]) <= LARGEST and library() is not None


class _Layers:
    """The layers as the kernel takes them: layer i's results begin at places[i] of an array of rows that are `stride` apart."""

    def __init__(self, x, weights, biases, places, stride):
        self.x, self.weights, self.biases = x, weights, biases
        outputs = [n for w, place in zip(weights, places, strict=True) for n in (w.shape[0], place)]
        absent = (None,) * (3 - len(weights))
        self.sizes = numbers(math.prod(x.shape[:-1]), x.shape[-1], stride, *outputs, *(0, 0) * len(absent))
        self.arrays = contiguous(x), *map(contiguous, weights), *absent
        self.absent = absent

    def forward(self, z, y=None):
        biases = (None if b is None else contiguous(b) for b in self.biases)
        call("joint_linear_forward", self.sizes, *self.arrays, *biases, *self.absent, z, y)

    def backward(self, dz, frozen):
        """The gradients of x, the weights and the biases."""
        dx = np.empty(self.x.shape, np.float32)
        dweights = [None if frozen else np.empty(w.shape, np.float32) for w in self.weights]
        dbiases = [None if frozen or b is None else np.empty(b.shape, np.float32) for b in self.biases]
        call("joint_linear_backward", self.sizes, *self.arrays, dz, dx, *dweights, *self.absent, *dbiases, *self.absent)
        return dx, *dweights, *dbiases


@kernel("swiglu_linear", device="cpu")
def swiglu_linear(x, gate, up, gate_bias=None, up_bias=None, /, *, frozen=False):
    if x.ndim == 0 or gate.shape != up.shape or not _fits(x, (gate, up), (gate_bias, up_bias)):
        return NotImplemented
    shape = *x.shape[:-1], gate.shape[0]
    y, z = np.empty(shape, np.float32), np.empty((2, *shape), np.float32)
    layers = _Layers(x, (gate, up), (gate_bias, up_bias), (0, y.size), gate.shape[0])
    layers.forward(z, y)

    def vjp(dy):
        dz = np.empty_like(z)
        call("swiglu_backward", y.size, z[0], z[1], contiguous(dy), dz[0], dz[1])
        return layers.backward(dz, frozen)

    return y, vjp


@kernel("rotary_heads", device="cpu")
def rotary_heads(
    x, q_weight, k_weight, v_weight, q_bias=None, k_bias=None, v_bias=None, /, *, frequencies, start=0, pairing="half", frozen=False
):
    weights, biases, width = (q_weight, k_weight, v_weight), (q_bias, k_bias, v_bias), 2 * len(frequencies)
    if x.ndim != 3 or not width or not _fits(x, weights, biases) or any(w.shape[0] % width for w in weights):
        return NotImplemented
    batch, steps, _ = x.shape
    queries, keys, values = (w.shape[0] // width for w in weights)
    heads = queries + keys + values
    layers = _Layers(x, weights, biases, (0, queries * width, (queries + keys) * width), heads * width)

    def taken_apart(whole):  # (N, T, heads, D) -> what is turned, and q, k and v, each (N, its heads, T, D)
        whole = whole.transpose(0, 2, 1, 3)
        return whole[:, : queries + keys], (whole[:, :queries], whole[:, queries : queries + keys], whole[:, queries + keys :])

    z = np.empty((batch, steps, heads, width), np.float32)
    layers.forward(z)
    to_turn, made = taken_apart(z)
    cos, sin = cos_and_sin(to_turn, frequencies, start, pairing)
    sizes = numbers(batch, queries + keys, steps, width // 2, *strides(to_turn) * 2)

    def turn(x, sign):  # where it lies
        call("rotary", sizes, Strided(x), cos, sin, sign, pairing == "interleaved", Strided(x))

    turn(to_turn, 1)

    def vjp(*cotangents):
        dz = np.empty(z.shape, np.float32)
        turned, parts = taken_apart(dz)
        for part, dy in zip(parts, cotangents, strict=True):
            part[...] = dy
        turn(turned, -1)
        return layers.backward(dz, frozen)

    return made, vjp
