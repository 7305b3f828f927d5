"""From tensors in a file to a model: its architecture by name, then names and shapes compared, then the parameters filled one by one."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import numpy as np

from tinylm import nn
from tinylm.bindings.cpu.library import reads
from tinylm.checks import check_choice
from tinylm.engine.stored_weights import StoredWeights, Weights
from tinylm.errors import CheckpointError, listed
from tinylm.files.stored_tensors import StoredTensor
from tinylm.models.language_model import LanguageModel

M = TypeVar("M", bound=LanguageModel)
Transform = Callable[[np.ndarray], np.ndarray]
_ARCHITECTURES = {"gpt2": "gpt", "llama": "llama"}  # the name in a file -> ours


def architecture(name: Any, where: Any, setting: str) -> str:
    """Returns 'gpt' or 'llama' for the name that a file gives in `setting`. Raises CheckpointError for any other."""
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        raise CheckpointError(f"{where}: {setting} is {name!r:.60}, expected 'gpt2' or 'llama'")
    return _ARCHITECTURES[name]


@dataclass(frozen=True)
class WeightSource:
    """A stored tensor, and what makes a parameter of it; None if it is the parameter.  of_rows: that only puts rows in another order."""

    stored: StoredTensor
    transform: Transform | None = None
    of_rows: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """The parameter's shape."""
        if self.transform is None:
            return self.stored.shape
        try:
            return self.transform(np.broadcast_to(np.float32(0), self.stored.shape)).shape
        except ValueError:  # cannot be transformed: shown as it is, and refused
            return self.stored.shape

    def fill(self, out: np.ndarray) -> None:
        """Writes the values into an array of that shape."""
        if self.transform is not None:
            out[...] = self.transform(self.stored.read())
            return
        for place, rows in self.stored.slices():
            out[place] = rows

    def kept(self) -> StoredWeights | None:
        """Returns the matrix as its file has it; None if that is impossible. Raises CheckpointError for a NaN or an infinity."""
        rows = self.stored.rows
        if rows is None or not reads(rows.format) or (self.transform is not None and not self.of_rows):
            return None
        raw = rows.checked_copy(self.stored.name)
        return StoredWeights(rows.format, raw if self.transform is None else self.transform(raw), self.shape[1], rows.decode)


def build_model(kind: Callable[[Any], M], config: Any, sources: Mapping[str, WeightSource], where: Any, weights: Weights) -> M:
    """Returns the model of that config with the weights of these sources, by parameter name, in evaluation mode. With weights "stored",
    those of linear layers and embeddings stay as their file has them, if that is a format that the kernels read.

    A tensor without elements that the model lacks is left out.
    Raises CheckpointError naming missing, unexpected and misshapen tensors, before any weight is allocated; ConfigError for other weights.
    """
    check_choice("weights", weights, get_args(Weights))
    if config.n_layer > len(sources):
        raise CheckpointError(f"{where}: {config.n_layer} layers, but only {len(sources)} tensors of the model")
    with nn.init.shapes_only():
        model = kind(config)
    own = dict(model.named_parameters())
    missing = [f"missing {name!r} {p.shape}" for name, p in own.items() if name not in sources]
    unexpected = [f"unexpected {name!r:.80} {s.shape!s:.40}" for name, s in sources.items() if name not in own and not s.stored.empty]
    misshapen = [
        f"misshapen {name!r} {sources[name].shape!s:.40}, expected {p.shape}"
        for name, p in own.items()
        if name in sources and sources[name].shape != p.shape
    ]
    if problems := [p for of_each in itertools.zip_longest(missing, unexpected, misshapen) for p in of_each if p is not None]:
        raise CheckpointError(f"{where}: the tensors do not fit a {type(model).__name__} of its config: {listed(problems)}")
    matrices = {id(layer.weight) for layer in model.modules() if weights == "stored" and isinstance(layer, (nn.Linear, nn.Embedding))}
    for name, p in own.items():
        kept = sources[name].kept() if id(p) in matrices else None
        if kept is not None:
            p.data = kept
        else:
            nn.init.allocate(p)
            sources[name].fill(p.data)
    model.eval()
    return model
