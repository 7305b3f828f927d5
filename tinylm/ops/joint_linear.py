"""Several linear layers of the same input, fused with the op that follows them."""

from tinylm.engine.op import op
from tinylm.errors import ShapeError
from tinylm.ops.activations import identity, swiglu
from tinylm.ops.attention import split_heads
from tinylm.ops.linear import linear
from tinylm.ops.rotary import rotary


@op
def swiglu_linear(x, gate, up, gate_bias=None, up_bias=None, /, *, frozen=False):
    """Y = silu(X Gᵀ + b) (X Uᵀ + c), see `linear` and `swiglu`.  Shazeer 2020, arXiv:2002.05202, eq. 6.

    x (..., in), gate G and up U (out, in), biases b and c (out,) -> (..., out).
    With dA and dB the gradients of swiglu's two arguments:
    dX = dA G + dB U,  dG = dAᵀ X,  dU = dBᵀ X,  db = Σ dA,  dc = Σ dB.
    frozen: weights and biases are constants, and the products for dG and dU are not computed.
    """
    a, gate_vjp = linear.op.body(x, gate, gate_bias, frozen=frozen)
    b, up_vjp = linear.op.body(x, up, up_bias, frozen=frozen)
    y, swiglu_vjp = swiglu.op.body(a, b)

    def vjp(dy):
        da, db = swiglu_vjp(dy)
        dx, dgate, dgate_bias, _ = gate_vjp(da)
        dx_of_up, dup, dup_bias, _ = up_vjp(db)
        return dx + dx_of_up, dgate, dup, dgate_bias, dup_bias

    return y, vjp


@op
def rotary_heads(
    x, q_weight, k_weight, v_weight, q_bias=None, k_bias=None, v_bias=None, /, *, frequencies, start=0, pairing="half", frozen=False
):
    """Computes queries, keys and values of an attention layer with rotary positions: R heads(X W_qᵀ + b_q), R heads(X W_kᵀ + b_k) and
    heads(X W_vᵀ + b_v), see `linear`, `split_heads` and `rotary` (R), whose settings these are.

    x (N, T, in); with D twice the number of frequencies: q_weight (H·D, in), k_weight and v_weight (K·D, in), biases (H·D,) and
    (K·D,) -> q (N, H, T, D), k and v (N, K, T, D).  dX is the sum of the three projections' gradients.
    frozen: weights and biases are constants, and the products for their gradients are not computed.
    Raises ShapeError if x does not have three axes, or if the rows of a weight are not whole heads.
    """
    width = 2 * len(frequencies)
    for name, weight in (("q", q_weight), ("k", k_weight), ("v", v_weight)):
        if not width or weight.shape[0] % width:
            raise ShapeError(f"rotary_heads: {name}_weight has shape {weight.shape}: expected whole heads of {width} rows each")
    vjps = []

    def projected(weight, bias, turning):
        y, linear_vjp = linear.op.body(x, weight, bias, frozen=frozen)
        (heads,), split_vjp = split_heads.op.body(y, 1, weight.shape[0] // width)
        heads, turn_vjp = rotary.op.body(heads, frequencies, start, pairing=pairing) if turning else identity.op.body(heads)
        vjps.append(lambda dheads: linear_vjp(*split_vjp(*turn_vjp(dheads))))
        return heads

    q, k, v = projected(q_weight, q_bias, True), projected(k_weight, k_bias, True), projected(v_weight, v_bias, False)

    def vjp(dq, dk, dv):
        (dx_q, dwq, dbq, _), (dx_k, dwk, dbk, _), (dx_v, dwv, dbv, _) = (f(d) for f, d in zip(vjps, (dq, dk, dv), strict=True))
        return dx_q + dx_k + dx_v, dwq, dwk, dwv, dbq, dbk, dbv

    return (q, k, v), vjp
