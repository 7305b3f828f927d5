"""Parameter groups by weight decay: matrices decay, vectors do not."""

from collections.abc import Iterable
from typing import Any


def decay_groups(parameters: Iterable[Any], weight_decay: float, **settings: Any) -> list[dict[str, Any]]:
    """Returns the groups for an optimiser of tinylm or PyTorch: matrices with weight decay, then vectors without.

    Biases and the weights of normalisations have one axis. A parameter that is not trained is left out, and so is an
    empty group. parameters: tensors, or pairs (name, tensor). settings: what both groups have beside it, such as lr.
    """
    pairs = [(given, given[1] if isinstance(given, tuple) else given) for given in parameters]
    trained = [(given, p.ndim) for given, p in pairs if p.requires_grad]
    parts = ([given for given, axes in trained if axes >= 2], weight_decay), ([given for given, axes in trained if axes < 2], 0.0)
    return [{"params": members, "weight_decay": decay, **settings} for members, decay in parts if members]
