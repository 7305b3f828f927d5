"""A model and the text that a question is about, which the model can read in several copies at once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.decode.stepping import evaluating
from tinylm.engine.autograd import no_grad
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor, as_array
from tinylm.errors import AnomalyError, ConfigError, RangeError, ShapeError
from tinylm.models import LanguageModel
from tinylm.models.classifier import BagClassifier, LinearClassifier, TextClassifier
from tinylm.models.translator import TranslationModel
from tinylm.nn import Module

Texts = Callable[[int], str]  # what a token id is called


class Subject:
    """What is common to the three kinds of models.

    model: reads in evaluation mode, and nothing is recorded.  ids: what it reads, (T,); of a translator the target so far.
    targets: the right next token of each position (T,), -1 where the text does not say it; of a classifier the label, (1,).
    source: what a translator translates (S,), else None.
    """

    model: Any
    ids: np.ndarray
    targets: np.ndarray
    source: np.ndarray | None = None

    @property
    def read(self) -> np.ndarray:
        """The ids that the first layers read: of a translator the source."""
        return self.ids if self.source is None else self.source

    def logits(self, copies: int = 1) -> Tensor:
        """Returns the logits of so many copies of the text: (copies, T, V), of a classifier (copies,), of K > 2 classes (copies, 1, K)."""
        with no_grad(), evaluating(self.model.modules()):
            return self._logits(copies)

    def _logits(self, copies: int) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no logits")

    def losses(self, logits: Tensor) -> np.ndarray:
        """Returns the loss of each copy in nats per token (copies,) float64, from its logits. Raises AnomalyError for NaN."""
        known = np.flatnonzero(self.targets >= 0)
        if not len(known):
            raise ConfigError(f"the text has {len(self.ids)} tokens: a loss needs at least 2")
        whole = ops.logsumexp(logits, axis=-1).numpy()[:, known]
        right = logits.numpy()[:, known, self.targets[known]]
        return _no_nan((whole.astype(np.float64) - right).mean(1))

    @property
    def device(self) -> str:
        return next(iter(self.model.parameters())).device

    def _copies(self, ids: Any, copies: int) -> Tensor:
        return Tensor(to_device(np.tile(ids, (copies, 1)), self.device))


class _Language(Subject):
    """A language model, which predicts each token from those before it."""

    def __init__(self, model: LanguageModel, ids: np.ndarray) -> None:
        self.model, self.ids = model, ids
        self.targets = np.append(ids[1:], -1)
        if model.block_size is not None and len(ids) > model.block_size:
            raise ConfigError(f"the text has {len(ids)} tokens: expected at most {model.block_size}, the model's context")

    def _logits(self, copies: int) -> Tensor:
        return self.model.logits(self._copies(self.ids, copies))


class _Translation(Subject):
    """A translator, which predicts each token of the target from the source and the target's tokens before it."""

    def __init__(self, model: TranslationModel, source: np.ndarray, ids: np.ndarray) -> None:
        self.model, self.ids, self.source = model, ids, source
        self.targets = np.append(ids[1:], -1)

    def _logits(self, copies: int) -> Tensor:
        source = self._copies(self.source, copies)
        return self.model(source, np.full(copies, source.shape[1]), self._copies(self.ids, copies))


class _Classification(Subject):
    """A classifier, which says of which class the text is. Of more than two classes its logits are those of one position, whose tokens
    are the classes."""

    def __init__(self, model: TextClassifier, ids: np.ndarray, label: int) -> None:
        self.model, self.ids, self.targets = model, ids, np.array([label])

    def _logits(self, copies: int) -> Tensor:
        logits = self.model(self._copies(self.ids, copies), np.full(copies, len(self.ids)))
        return logits if logits.ndim == 1 else ops.expand_dims(logits, 1)

    def losses(self, logits: Tensor) -> np.ndarray:
        """Returns log(1 + exp(∓z)) of each copy's logit z, for label 1 or 0; of more classes as of one position."""
        if logits.ndim > 1:
            return super().losses(logits)
        z = _no_nan(logits.numpy().astype(np.float64))
        return np.logaddexp(0, -z if self.targets[0] else z)


def _no_nan(values: np.ndarray) -> np.ndarray:
    if np.isnan(values).any():
        raise AnomalyError("the loss of the text is NaN: the model's logits have NaN or infinities")
    return values


def subject_of(model: Module, ids: Any, source: Any = None, label: int | None = None) -> Subject:
    """Returns a model with the text that it reads.

    ids: (T,) integers; of a translator the target, with the ids that begin and end it. source: what a translator translates,
    (S,). label: the class of a classifier's text, from 0 on; by default the one that it finds more likely.
    Raises ConfigError for a model that reads no text, or another argument than its kind needs; ShapeError or RangeError for such ids.
    """
    if not isinstance(model, LanguageModel | TranslationModel | TextClassifier):
        raise ConfigError(f"the model is a {type(model).__name__}: expected a language model, translator or classifier of tinylm.models")
    for name, value, kind in (("source", source, TranslationModel), ("label", label, TextClassifier)):
        if value is not None and not isinstance(model, kind):
            raise ConfigError(f"{name} is given, but the model is a {type(model).__name__}: only a {kind.__name__} has a {name}")
    text = _checked("ids", ids)
    if isinstance(model, TranslationModel):
        return _Translation(model, _checked("source", source), text)
    if isinstance(model, TextClassifier):
        if isinstance(model, BagClassifier | LinearClassifier):
            raise ConfigError(
                f"a {type(model).__name__} has no layers to look into: expected an LSTM or Transformer classifier, or an ensemble"
            )
        if label is None:
            logits = _Classification(model, text, 0).logits().numpy()
            label = int(logits[0] > 0) if logits.ndim == 1 else int(logits[0, 0].argmax())
        if label not in range(model.classes):
            expected = "0 or 1" if model.classes == 2 else f"0 to {model.classes - 1}"
            raise RangeError(f"label is {label!r:.40}: expected {expected}")
        return _Classification(model, text, label)
    return _Language(model, text)


def _checked(name: str, ids: Any) -> np.ndarray:
    if ids is None:
        raise ConfigError(f"{name} is None: a translator needs the {name} of its text")
    try:
        array = to_numpy(as_array(ids)) if isinstance(ids, Tensor) else np.asarray(ids)
    except ValueError as error:
        raise ShapeError(f"{name} are lists of different lengths: expected (T,) integers, at least one") from error
    if array.ndim != 1 or not len(array) or array.dtype.kind not in "iu":
        raise ShapeError(f"{name} have shape {array.shape} and dtype {array.dtype}: expected (T,) integers, at least one")
    return array.astype(np.int64)


def called(texts: Texts | None, ids: Sequence[int] | np.ndarray) -> list[str]:
    """Returns what these ids are called: their numbers if nobody says."""
    return [str(int(i)) if texts is None else texts(int(i)) for i in ids]
