"""Many runs of one text at once, each with its own activations changed: one copy of the text in a batch per run."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.decode.stepping import evaluating
from tinylm.engine.arrays import array_module
from tinylm.engine.autograd import no_grad
from tinylm.engine.devices import to_device
from tinylm.engine.tensor import Tensor
from tinylm.explain.activations import cache, replace
from tinylm.explain.questions.readout import readout
from tinylm.explain.questions.subjects import Subject
from tinylm.models import GPT, Llama

Change = tuple[Any, Any]  # (mask, value): where the mask is True, the value takes the activation's place
Edit = Mapping[str, Change]  # what one run changes, by name; both broadcast to the activation without its batch axis

_MOST_POSITIONS = 16_384  # in one batch
_MOST_LOGITS = 2**26  # in one batch, 256 MB


def edited(subject: Subject, edits: Sequence[Edit]) -> Iterator[Tensor]:
    """Yields the logits of as many runs at a time as memory allows, in the order of the edits, and before them those of one more run that
    changes nothing, in the same batch: (1 + runs, T, V), or (1 + runs,) of a classifier.

    A batch of GPT or Llama begins at the first layer that one of its runs changes, so edits should be in the order of the layers.
    """
    positions = max(len(ids) for ids in (subject.ids, subject.source) if ids is not None)
    most = min(_MOST_POSITIONS, _MOST_LOGITS // getattr(subject.model, "vocab_size", 1))
    together = max(1, most // positions - 1)
    streams: dict[int, Tensor] = {}
    if type(subject.model).forward in (GPT.forward, Llama.forward):  # not a forward pass of one's own
        with cache(subject.model, "h.*.resid_pre") as seen:
            subject.logits()
        streams = {_layer(name): stream for name, stream in seen.items()}
    for first in range(0, len(edits), together):
        yield _run(subject, [{}, *edits[first : first + together]], streams)


def _run(subject: Subject, edits: Sequence[Edit], streams: Mapping[int, Tensor]) -> Tensor:
    changed = dict.fromkeys(name for edit in edits for name in edit)
    rows = {name: {row: edit[name] for row, edit in enumerate(edits) if name in edit} for name in changed}
    with replace(subject.model, {name: _Changes(changes, subject.device) for name, changes in rows.items()}):
        start = min(map(_layer, changed), default=0) if streams else 0
        if not start:
            return subject.logits(len(edits))
        with no_grad(), evaluating(subject.model.modules()):
            x = ops.concatenate([streams[start]] * len(edits))
            for block in list(subject.model.blocks())[start:]:
                x = block(x)
            return readout(subject.model, x)


def _layer(name: str) -> int:
    """Returns the layer that an activation of GPT or Llama belongs to; 0 for one outside the layers."""
    found = re.match(r"h\.(\d+)\.", name)
    return int(found[1]) if found else 0


class _Changes:
    """Changes one activation in some rows of a batch; of a recurrent layer at each step."""

    def __init__(self, rows: Mapping[int, Change], device: str) -> None:
        shape = np.broadcast_shapes(*(np.shape(part) for change in rows.values() for part in change))
        masks, values = (np.stack([np.broadcast_to(part, shape) for part in parts]) for parts in zip(*rows.values(), strict=True))
        self._rows, self._mask, self._values = (to_device(x, device) for x in (np.array(list(rows)), masks, values))

    def __call__(self, value: Tensor, step: int | None = None) -> Tensor:
        data = value.data.copy()
        mask, values = (_fitting(x, data.ndim, step) for x in (self._mask, self._values))
        data[self._rows] = array_module(data).where(mask, values, data[self._rows])
        return Tensor(data)


def _fitting(x: Any, axes: int, step: int | None) -> Any:
    """Returns x (rows, ...), at one step of a recurrent layer if there is one, with axes of length 1 after the rows up to so many axes."""
    if step is not None and x.ndim == axes + 1:
        x = x[:, min(step, x.shape[1] - 1)]
    return x.reshape(len(x), *[1] * (axes - x.ndim), *x.shape[1:])
