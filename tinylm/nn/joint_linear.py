"""Linear layers of one input, computed together with what follows them.

Plain layers are one fused op. An adapter (see `lora`) adds to what its layer computes: then each layer is called by itself.
"""

from collections.abc import Sequence

from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.nn.layers import Linear


def swiglu_linear(x: Tensor, gate: Linear, up: Linear) -> Tensor:
    """Returns silu(gate(x)) ⊙ up(x): x (..., in) -> (..., out)."""
    if _plain(gate, up):
        return ops.swiglu_linear(x, gate.weight, up.weight, gate.bias, up.bias, frozen=gate.frozen and up.frozen)
    return ops.swiglu(gate(x), up(x))


def rotary_heads(
    x: Tensor, q: Linear, k: Linear, v: Linear, *, frequencies: Sequence[float], start: int, pairing: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the heads of R q(x), R k(x) and v(x), R being the rotation that `ops.rotary` makes at the positions from `start` on.

    x (N, T, in); heads are D = 2 len(frequencies) wide; q (N, H, T, D), k and v (N, K, T, D) for layers of H D and K D outputs.
    """
    if _plain(q, k, v):
        return ops.rotary_heads(
            x, q.weight, k.weight, v.weight, q.bias, k.bias, v.bias,
            frequencies=frequencies, start=start, pairing=pairing, frozen=q.frozen and k.frozen and v.frozen,
        )  # fmt: skip
    width = 2 * len(frequencies)
    (queries,), (keys,), (values,) = (ops.split_heads(layer(x), 1, layer.out_features // width) for layer in (q, k, v))
    queries, keys = (ops.rotary(heads, frequencies, start, pairing=pairing) for heads in (queries, keys))
    return queries, keys, values


def _plain(*layers: Linear) -> bool:
    """Whether every layer computes what its weight and bias say and no more."""
    return all(type(layer) is Linear for layer in layers)
