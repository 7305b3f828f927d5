"""How large the gradient of each layer is."""

import re
from typing import Any

from tinylm.engine.devices import to_numpy
from tinylm.nn import Module
from tinylm.optim.optimizer import grad_norm


def layer_of(path: str) -> str:
    """The layer that a parameter belongs to, from its path: 'transformer.h.0.attn.c_attn.weight' is of
    'transformer.h.0', 'rnn.weight_ih_l1' of 'rnn.l1', 'decoder.weight' of 'decoder'."""
    numbered = re.match(r"(?:.*?\.)?\d+(?=\.)", path)
    if numbered:
        return numbered[0]
    module, _, name = path.rpartition(".")
    recurrent = re.search(r"_(l\d+(?:_reverse)?)$", name)
    return f"{module}.{recurrent[1]}".lstrip(".") if recurrent else module or name


def gradient_norms(model: Module) -> dict[str, float]:
    """√Σ g² of each layer's gradients as `backward` left them, by layer; without those that have none."""
    grads: dict[str, list[Any]] = {}
    for path, p in model.named_parameters():
        if p.grad is not None:
            grads.setdefault(layer_of(path), []).append(p.grad)
    return {layer: float(to_numpy(grad_norm(of_layer))) for layer, of_layer in grads.items()}
