"""Low-rank adapters: the trained weights stay as they are, and a small correction to some layers is learned beside them.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv:2106.09685, section 4.1.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from tinylm import ops
from tinylm.checks import check_finite, check_integer, check_positive, shown
from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_device
from tinylm.engine.products import products
from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError, ConfigError, listed
from tinylm.nn import init
from tinylm.nn.layers import Linear
from tinylm.nn.modules import Module, Parameter
from tinylm.ops.activations import ACTIVATIONS


class LowRankLinear(Linear):
    """y = x Wᵀ + b + (alpha / rank) (x Aᵀ) Bᵀ, with W and b frozen.

    lora_A (rank, in) starts at U(-1/√in, 1/√in), lora_B (out, rank) at zero, so the layer begins as the
    one it adapts. Raises ConfigError for a rank that is not between 1 and both widths, and for an alpha that is
    not finite or not more than 0.
    """

    def __init__(self, base: Linear, rank: int, alpha: float) -> None:
        widest = min(base.in_features, base.out_features)
        rank, alpha = check_integer("rank", rank), check_finite("alpha", alpha)
        check_positive(alpha=alpha)
        if not 1 <= rank <= widest:
            raise ConfigError(f"rank is {shown(rank)}: expected 1 to {widest} for a layer from {base.in_features} to {base.out_features}")
        with init.shapes_only():
            super().__init__(base.in_features, base.out_features, base.bias is not None)
        self.weight, self.bias, self.scale = base.weight, base.bias, alpha / rank
        self.lora_A = init.uniform((rank, self.in_features), 1 / math.sqrt(self.in_features))
        self.lora_B = init.zeros((self.out_features, rank))
        for factor in (self.lora_A, self.lora_B):
            factor.data = to_device(factor.data.astype(base.weight.dtype), base.weight.device)

    def forward(self, x: Tensor | np.ndarray, residual: Tensor | None = None, *, activation: str | None = None) -> Tensor:
        """Returns act(x Wᵀ + b + the correction) + residual."""
        narrow = ops.linear(x, self.lora_A) * self.scale  # (..., in) -> (..., rank)
        if activation is None:
            return super().forward(x, ops.linear(narrow, self.lora_B, None, residual))
        y = ACTIVATIONS[activation](super().forward(x, ops.linear(narrow, self.lora_B)))
        return y if residual is None else y + residual

    def merged(self) -> Linear:
        """Returns a plain layer of the weight W + (alpha / rank) B A, trained like any other."""
        with init.shapes_only():
            plain = Linear(self.in_features, self.out_features, self.bias is not None)
        with products("float32"):  # a weight, not an activation
            correction = ops.matmul(self.lora_B.data, self.lora_A.data).data
        plain.weight = Parameter(self.weight.data + self.scale * correction)
        plain.bias = self.bias
        return plain

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, rank={self.lora_A.shape[0]}, scale={self.scale:g}"


def adapt(model: Module, rank: int, alpha: float, chosen: Callable[[str], bool] = lambda path: True) -> list[str]:
    """Freezes every parameter and puts a LowRankLinear in the place of each Linear whose path is `chosen`.

    Returns their paths. A weight that is tied to another layer's cannot be chosen, as its other use
    would not be adapted. Raises ConfigError if nothing, or such a weight, is chosen, or for a rank or
    alpha that LowRankLinear does not take; the model is not changed then.
    """
    uses: dict[int, int] = {}
    for _, tensor in model.named_state():
        uses[id(tensor)] = uses.get(id(tensor), 0) + 1
    layers = {path: module for path, module in model.named_modules() if type(module) is Linear and chosen(path)}
    if not layers:
        raise ConfigError(f"none of the linear layers of {type(model).__name__} is chosen to be adapted")
    for path, layer in layers.items():
        if uses[id(layer.weight)] > 1:
            raise ConfigError(f"{path} shares its weight with another layer: it cannot be adapted alone")
    adapted = {path: LowRankLinear(layer, rank, alpha) for path, layer in layers.items()}  # all of them, before anything is changed
    for parameter in model.parameters():
        parameter.requires_grad = False
    for path, layer in adapted.items():
        _put(model, path, layer)
    return list(layers)


def merge(model: Module) -> None:
    """Adds every adapter to the weight it corrects, and makes all parameters trainable again."""
    for path, module in list(model.named_modules()):
        if isinstance(module, LowRankLinear):
            _put(model, path, module.merged())
    for parameter in model.parameters():
        parameter.requires_grad = True


def adapter_arrays(model: Module) -> dict[str, Array]:
    """Returns the adapters' arrays by name, not copied: "<path>.lora_A" and "<path>.lora_B"."""
    layers = ((path, module) for path, module in model.named_modules() if isinstance(module, LowRankLinear))
    return {f"{path}.{name}": getattr(module, name).data for path, module in layers for name in ("lora_A", "lora_B")}


def load_adapters(model: Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Fills the adapters with what `adapter_arrays` returned; the rest of the model is not changed.

    Raises CheckpointError naming every missing, unexpected and misshapen name.
    """
    own = adapter_arrays(model)
    rest = {name: tensor.data for name, tensor in model.named_state() if name not in own}
    if others := [f"unexpected {name!r}, which is no adapter" for name in arrays if name in rest]:
        raise CheckpointError(f"the adapters do not fit {type(model).__name__}: {listed(others)}")
    model.load_state_dict({**rest, **arrays})


def _put(model: Module, path: str, layer: Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(dict(model.named_modules())[parent], name, layer)
