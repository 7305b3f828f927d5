"""Direct logit attribution: what each head, MLP and embedding wrote into one logit.

The residual stream of a pre-norm Transformer is a sum, and the logits are linear in it but for the scale of the final norm.
Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table

from tinylm.decode.stepping import evaluation_mode
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.ids import check_ids
from tinylm.engine.tensor import Tensor, as_array
from tinylm.errors import ConfigError, RangeError, ShapeError
from tinylm.explain.activations import cache
from tinylm.explain.answers import Answer
from tinylm.explain.drawing import heat_map
from tinylm.explain.figures import Picture
from tinylm.models import GPT, Llama
from tinylm.nn import Module

_SHOWN = 12  # terms of a table
_BIASES = ("attn.c_proj.bias", "attn.o_proj.bias", "ln_f.bias")  # those that no head and no MLP adds


@dataclass(frozen=True, repr=False)
class DirectAttribution(Answer):
    """The terms of one logit, or of the difference of two.

    terms: by name, in the order of the computation: 'embedding', 'positions' of GPT, 'layer 0, head 0', ..., 'layer 0, MLP',
    and 'biases', if the model has any: those of the attention's output and of the final norm together.
    heads (layers, heads), mlps (layers,): the same numbers.  logit: what the model computed.
    position, token, against: where, of which id, and minus which.
    """

    terms: Mapping[str, float]
    heads: np.ndarray
    mlps: np.ndarray
    logit: float
    position: int
    token: int
    against: int | None

    @property
    def sum(self) -> float:
        """The sum of the terms."""
        return float(sum(self.terms.values()))

    @property
    def remainder(self) -> float:
        """logit - sum: rounding."""
        return self.logit - self.sum

    def __repr__(self) -> str:
        return f"DirectAttribution({len(self.terms)} terms, sum {self.sum:.4f}, logit {self.logit:.4f})"

    def __rich__(self) -> Group:
        table = Table("written by", "term", box=None)
        largest = sorted(self.terms, key=lambda name: -abs(self.terms[name]))[:_SHOWN]
        for name in largest:
            table.add_row(name, f"{self.terms[name]:+.4f}")
        if rest := [value for name, value in self.terms.items() if name not in largest]:
            table.add_row(f"{len(rest)} others", f"{sum(rest):+.4f}")
        return Group(table, f"sum {self.sum:+.4f}, logit {self.logit:+.4f}, remainder {self.remainder:+.1e}")


def direct_attribution(
    model: Module, ids: Any, *, position: int = -1, token: int | None = None, against: int | None = None
) -> DirectAttribution:
    """Returns the terms whose sum is the logit of a token at a position of a text, ids (T,): what each part of a GPT or Llama adds.

    The stream before the final norm is x = Σ_i x_i, over embedding, positions, each head, each MLP and the biases. With the
    norm's scale s (1 / √(var x + eps) of a layer norm, 1 / √(mean x² + eps) of an RMS norm) held at its value for this text, the term
    of part i is u · w ⊙ s (x_i - mean x_i), without the mean for an RMS norm: w is the norm's weight, u the token's row of the
    output layer. The norm's own bias is one of the biases.
    token: by default the most likely one there. against: another token whose logit is subtracted, so that what
    raises all logits alike has no part in the terms.
    Raises ConfigError for a model that is no GPT or Llama, such as one with norms after the branches, in which nothing adds
    to a stream that reaches the output; ShapeError for ids that are not (T,); RangeError for a position or id outside its range; what
    the model raises.
    """
    if not isinstance(model, GPT | Llama):
        raise ConfigError(
            f"{type(model).__name__} has no stream that is the sum of what its parts wrote: direct attribution expects a GPT or Llama"
        )
    ids = np.asarray(as_array(ids))
    if ids.ndim != 1 or not len(ids):
        raise ShapeError(f"ids have shape {ids.shape}: expected (T,), one text of at least one token")
    if not -len(ids) <= position < len(ids):
        raise RangeError(f"position is {position}: expected {-len(ids)} to {len(ids) - 1}, the text has {len(ids)} tokens")
    position %= len(ids)
    wanted = ["*embed", "h.*.attn.head_out", "h.*.attn.out", "h.*.mlp.out", "h.*.resid_post", "logits"]
    with evaluation_mode(model), cache(model, wanted) as seen:
        device = next(iter(model.parameters())).device
        model(Tensor(to_device(np.ascontiguousarray(ids[None, : position + 1]), device)))
    logits = to_numpy(seen["logits"].data)[0, position].astype(np.float64)
    chosen = int(logits.argmax()) if token is None else token
    check_ids(np.array([chosen, chosen if against is None else against]), model.vocab_size, "token id")

    def at(name: str) -> np.ndarray:
        """Returns what an activation is at the position: (C,), or (heads, C)."""
        value = to_numpy(seen[name].data).astype(np.float64)
        return value[position] if name == "pos_embed" else value[0, ..., position, :]

    layers = range(len(model.blocks()))
    x = at(f"h.{layers[-1]}.resid_post")
    direction, constant = _read_out(model, x, chosen, against)
    heads = np.stack([at(f"h.{i}.attn.head_out") @ direction for i in layers])  # (layers, heads)
    mlps = np.stack([at(f"h.{i}.mlp.out") @ direction for i in layers])
    terms = {"embedding": float(at("embed") @ direction)}
    if "pos_embed" in seen:
        terms["positions"] = float(at("pos_embed") @ direction)
    for i in layers:
        terms |= {f"layer {i}, head {j}": float(value) for j, value in enumerate(heads[i])}
        terms[f"layer {i}, MLP"] = float(mlps[i])
    if any(name.endswith(_BIASES) for name, _ in model.named_parameters()):
        written = sum((at(f"h.{i}.attn.out") - at(f"h.{i}.attn.head_out").sum(0)) @ direction for i in layers)
        terms["biases"] = float(written) + constant
    logit = logits[chosen] - (0 if against is None else logits[against])
    return DirectAttribution(terms, heads, mlps, float(logit), position, chosen, against)


def _read_out(model: GPT | Llama, x: np.ndarray, token: int, against: int | None) -> tuple[np.ndarray, float]:
    """Returns (d, c) such that the logit is x_i · d summed over the parts of the stream x (C,), plus c."""
    output = to_numpy(model.lm_head.weight.data)
    row = output[token].astype(np.float64) - (0 if against is None else output[against].astype(np.float64))
    norm = model.transformer.ln_f if isinstance(model, GPT) else model.model.norm
    assert norm.weight is not None
    weight = to_numpy(norm.weight.data).astype(np.float64)
    if isinstance(model, Llama):
        return row * weight / np.sqrt((x * x).mean() + norm.eps), 0.0
    bias = getattr(norm, "bias", None)
    direction = row * weight / np.sqrt(x.var() + norm.eps)
    return direction - direction.mean(), 0.0 if bias is None else float(row @ to_numpy(bias.data))


def draw_direct_attribution(found: DirectAttribution, title: str = "What each part wrote into the logit") -> Picture:
    """Draws the terms of heads and MLPs, one row per layer; the title has the others. Returns the figure."""
    layers, heads = found.heads.shape
    others = ", ".join(f"{name} {value:+.2f}" for name, value in found.terms.items() if not name.startswith("layer"))
    values = np.concatenate([found.heads, found.mlps[:, None]], axis=1)
    columns, rows = [*(f"head {j}" for j in range(heads)), "MLP"], [f"layer {i}" for i in range(layers)]
    return heat_map(values, rows, columns, title=f"{title} ({others})", bar_label="part of the logit", diverging=True)
