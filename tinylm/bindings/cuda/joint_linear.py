"""Linear layers of the same input: the products are computed by cuBLAS, what follows them is fused."""

import math

from tinylm.bindings.cuda.activations import swiglu
from tinylm.bindings.cuda.launching import contiguous
from tinylm.bindings.cuda.linear import products_of_few_rows, weight_gradient
from tinylm.bindings.cuda.reductions import column_sums
from tinylm.bindings.cuda.rotary import rotary
from tinylm.bindings.cuda.rounding import operand_now
from tinylm.engine.arrays import array_module
from tinylm.engine.gradient_places import buffer_for
from tinylm.engine.kernels import kernel


def _projections(x, weights, biases, frozen):
    """Returns (X Wᵀ + b, vjp) for each weight and bias; a vjp returns dX, dW and db, the last two None if frozen."""
    xp = array_module(x)
    rows = contiguous(x).reshape(math.prod(x.shape[:-1]), x.shape[-1])
    operand = operand_now()
    left, rights = operand(rows), [operand(weight) for weight in weights]
    found = products_of_few_rows(left, rights, biases)
    if found is None:
        found = [xp.matmul(left, right.T) for right in rights]
        for y, bias in zip(found, biases, strict=True):
            if bias is not None:
                y += bias

    def of(y, weight, right, bias):
        def vjp(dy):
            dz = contiguous(dy, y.dtype).reshape(y.shape)
            d = operand(dz)
            dweight = None if frozen else weight_gradient(d, left, weight)
            dbias = None if frozen or bias is None else column_sums(dz, buffer_for(bias))
            return xp.matmul(d, right).reshape(x.shape), dweight, dbias

        return y.reshape(*x.shape[:-1], weight.shape[0]), vjp

    return [of(*each) for each in zip(found, weights, rights, biases, strict=True)]


@kernel("swiglu_linear", device="cuda", floats_only=True)
def swiglu_linear(x, gate, up, gate_bias=None, up_bias=None, /, *, frozen=False):
    if gate.shape != up.shape or gate.ndim != 2 or x.shape[-1:] != gate.shape[1:]:
        return NotImplemented
    (a, gate_vjp), (b, up_vjp) = _projections(x, (gate, up), (gate_bias, up_bias), frozen)
    y, swiglu_vjp = swiglu(a, b)

    def vjp(dy):
        da, db = swiglu_vjp(dy)
        (dx, dgate, dgate_bias), (dx_of_up, dup, dup_bias) = gate_vjp(da), up_vjp(db)
        return dx + dx_of_up, dgate, dup, dgate_bias, dup_bias

    return y, vjp


@kernel("rotary_heads", device="cuda", floats_only=True)
def rotary_heads(
    x, q_weight, k_weight, v_weight, q_bias=None, k_bias=None, v_bias=None, /, *, frequencies, start=0, pairing="half", frozen=False
):
    width = 2 * len(frequencies)
    weights = q_weight, k_weight, v_weight
    if x.ndim != 3 or not width or any(w.ndim != 2 or w.shape[0] % width or w.shape[1] != x.shape[-1] for w in weights):
        return NotImplemented
    batch, steps, _ = x.shape
    projections, vjps = zip(*_projections(x, weights, (q_bias, k_bias, v_bias), frozen), strict=True)
    rows = [y.reshape(batch, steps, y.shape[2] // width, width).transpose(0, 2, 1, 3) for y in projections]  # (N, heads, T, D)
    (q, q_turn), (k, k_turn) = (rotary(heads, frequencies, start, pairing=pairing) for heads in rows[:2])

    def vjp(dq, dk, dv):
        heads = *q_turn(dq), *k_turn(dk), dv
        joined = (d.transpose(0, 2, 1, 3).reshape(batch, steps, d.shape[1] * width) for d in heads)
        (dx_q, dwq, dbq), (dx_k, dwk, dbk), (dx_v, dwv, dbv) = (back(d) for back, d in zip(vjps, joined, strict=True))
        return dx_q + dx_k + dx_v, dwq, dwk, dwv, dbq, dbk, dbv

    return (q, k, rows[2]), vjp
