"""From tensors in a file to a model's parameters: held against its names and shapes first, then filled one by one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tinylm import nn
from tinylm.errors import CheckpointError
from tinylm.files.stored_tensors import StoredTensor
from tinylm.models.language_model import LanguageModel

M = TypeVar("M", bound=LanguageModel)


@dataclass(frozen=True)
class Source:
    """A stored tensor, and how it is turned into a parameter: None when it is the parameter."""

    stored: StoredTensor
    turn: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The parameter's shape."""
        if self.turn is None:
            return self.stored.shape
        try:
            return self.turn(np.broadcast_to(np.float32(0), self.stored.shape)).shape
        except ValueError:  # cannot be turned: shown as it is, and refused
            return self.stored.shape

    def fill(self, out: np.ndarray) -> None:
        """Writes the values into an array of that shape."""
        if self.turn is not None:
            out[...] = self.turn(self.stored.read())
            return
        for place, part in self.stored.slices():
            out[place] = part


def build(kind: Callable[[Any], M], config: Any, sources: Mapping[str, Source], where: Any) -> M:
    """The model of that config with the weights of these sources, by parameter name, in evaluation mode.

    Errors: CheckpointError listing every missing, unexpected and misshapen tensor; nothing was allocated then.
    """
    if config.n_layer > len(sources):
        raise CheckpointError(f"{where}: {config.n_layer} layers, but only {len(sources)} tensors of the model")
    with nn.init.shapes_only():
        model = kind(config)
    own = dict(model.named_parameters())
    problems = [f"missing {name!r} {p.shape}" for name, p in own.items() if name not in sources]
    problems += [f"unexpected {name!r} {s.shape}" for name, s in sources.items() if name not in own]
    problems += [
        f"misshapen {name!r} {sources[name].shape}, expected {p.shape}"
        for name, p in own.items()
        if name in sources and sources[name].shape != p.shape
    ]
    if problems:
        raise CheckpointError(f"{where}: the tensors do not fit a {type(model).__name__} of its config: {'; '.join(problems)}")
    for name, p in own.items():
        nn.init.allocate(p)
        sources[name].fill(p.data)
    model.eval()
    return model
