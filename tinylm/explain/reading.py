"""A trained model that reads a text, with its tape: what `explain` looks into, for each of the three kinds of runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from tinylm import ops
from tinylm.data.labelled import encode_words, expected_labels
from tinylm.data.pairs import make_batch
from tinylm.data.tokenizers import Tokenizer, token_texts
from tinylm.decode.stepping import evaluating
from tinylm.engine.autograd import set_recording
from tinylm.engine.devices import device_namespace, to_device, to_numpy
from tinylm.engine.stored_weights import Weights
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.explain.activations import Activations, cache, names
from tinylm.explain.attention_maps import Attention, attention_of
from tinylm.explain.gates import Gates, gates_of, is_recurrent
from tinylm.files.json_files import read_json
from tinylm.files.regular_files import exists
from tinylm.models import LanguageModel, NgramLM
from tinylm.models.translator import RecurrentTranslator
from tinylm.nn import Module
from tinylm.pretrained.model_loading import find_pretrained
from tinylm.train import load_run
from tinylm.train.tasks import classification, translation
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.loading import task_of
from tinylm.train.tasks.translation_config import TranslationConfig

Layer = TypeVar("Layer")


@dataclass(frozen=True)
class Part(Generic[Layer]):
    """Layers that work on the same tokens. name: 'encoder', 'decoder' or 'source' in a translator, else ''.
    tokens: those that look; sources: those looked at if they are others, else None."""

    name: str
    layers: list[Layer]
    tokens: list[str]
    sources: list[str] | None


class Reading:
    """A model that reads a text, in evaluation mode while it does.

    about: what the loss is, in words that follow its value.  text: what is read.  ids: of the text (T,); of a translator the target's,
    its beginning and end included.  tokenizer: None for a translator.  labels: of a classifier's classes, else None.
    """

    model: Module
    about: str
    text: str
    ids: np.ndarray
    tokenizer: Tokenizer | None = None
    labels: tuple[str, ...] | None = None
    _tokens: list[str]

    def loss(self) -> Tensor:
        """Returns the loss of the text, with its tape."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def output(self) -> Tensor:
        """Returns the logits, with their tape."""
        raise NotImplementedError(f"{type(self).__name__} has no output")

    def copies(self, count: int) -> Tensor:
        """Returns the logits of so many copies of the text side by side: (count, T, V); of a classifier those of the label, (count,)."""
        raise NotImplementedError(f"{type(self).__name__} has no copies")

    def token_id(self, text: str) -> int:
        """Returns the id of a text that is one token among those that the model says. Raises ConfigError if it is not one."""
        raise NotImplementedError(f"{type(self).__name__} has no token_id")

    def encode(self, text: str) -> np.ndarray:
        """Returns the ids of another text, as the model reads it. Raises DataError for one that cannot be encoded."""
        raise NotImplementedError(f"{type(self).__name__} has no encode")

    def token_text(self, token: int) -> str:
        """Returns what a token spells within a text."""
        raise NotImplementedError(f"{type(self).__name__} has no token_text")

    def seen(self, wanted: Sequence[str]) -> Activations:
        """Returns activations of the model while it reads the text, by the names of `explain.names`."""
        with cache(self.model, wanted) as seen:
            self.output()
        return seen

    def attention(self) -> list[Attention]:
        """Returns where each attention layer looks; [] if the model has none."""
        return attention_of(self.seen([name for name in names(self.model) if name.endswith(".pattern")]))

    def gates(self) -> list[Gates]:
        """Returns the gates and states of the recurrent layers; [] if the model has none."""
        return gates_of(self.seen([name for name in names(self.model) if is_recurrent(name)]))

    def tokens(self, layer: str) -> tuple[str, list[str], list[str] | None]:
        """Returns (part, tokens, sources) of a layer, see `Part`."""
        return "", self._tokens, None

    def parts(self, layers: Sequence[Any]) -> list[Part]:
        """Returns the layers, grouped by what they work on."""
        found: dict[str, Part] = {}
        for layer in layers:
            name, tokens, sources = self.tokens(layer.name)
            found.setdefault(name, Part(name, [], tokens, sources)).layers.append(layer)
        return list(found.values())


class LanguageReading(Reading):
    """A language model predicts each token of the text from those before it."""

    tokenizer: Tokenizer

    def __init__(self, model: LanguageModel | NgramLM, tokenizer: Tokenizer, text: str, device: str) -> None:
        """Raises ConfigError for an n-gram model, which has no tape, and for a text too short or too long; DataError for
        characters that the tokenizer does not know."""
        if isinstance(model, NgramLM):
            raise ConfigError("an n-gram model counts: it has no gradients, no attention and no gates")
        self.tokenizer = tokenizer
        ids = self.encode(text)
        if len(ids) < 2:
            raise ConfigError(f"the text has {len(ids)} tokens: expected at least 2")
        if model.block_size is not None and len(ids) > model.block_size:
            raise ConfigError(f"the text has {len(ids)} tokens: expected at most {model.block_size}, the model's context")
        self.model: LanguageModel = model
        self.text, self.ids = text, ids
        self.about = f"nats per token over {len(ids) - 1} tokens"
        self._ids = Tensor(to_device(ids[None], device))
        self._tokens = token_texts(tokenizer, ids.tolist())

    def loss(self) -> Tensor:
        with set_recording(True), evaluating(self.model.modules()):
            return self.model.loss(self._ids[:, :-1], self._ids[:, 1:])[0]

    def output(self) -> Tensor:
        with set_recording(True), evaluating(self.model.modules()):
            return self.model.advance(self._ids)[0]

    def copies(self, count: int) -> Tensor:
        return self.model.logits(_repeated(self._ids, count))

    def token_id(self, text: str) -> int:
        token = _one_token(text, self.tokenizer.encode(text).tolist())
        if token == self.tokenizer.unknown_id:
            raise ConfigError(f"the model has no token {text!r:.60}: a space before a word is part of its token")
        return token

    def encode(self, text: str) -> np.ndarray:
        return np.concatenate([np.array(self.tokenizer.start, np.int64), self.tokenizer.encode(text)])

    def token_text(self, token: int) -> str:
        return token_texts(self.tokenizer, [token, token])[1]


class TranslationReading(Reading):
    """A translator predicts each token of the target from the source and the target's tokens before it."""

    def __init__(self, translator: translation.SentenceTranslator, text: str, target: str | None) -> None:
        """target: by default the model's own greedy translation, or its first tokens if it does not end within the block.
        Raises DataError for an empty text, or one longer than the block; ConfigError for such a target."""
        vocabulary, longest = translator.vocabulary, translator.block_size
        own = translator.translate(text, beams=1)
        source, copied = vocabulary.read(text)
        goal = vocabulary.write(own if target is None else target, copied)
        if target is not None and len(goal) > longest:
            raise ConfigError(f"the target has {len(goal)} tokens, its end included: expected at most {longest}")
        goal = goal[:longest]
        batch = make_batch([(source, goal)], vocabulary)
        self.model = translator.model
        self.text = text
        self.about = f"nats per token over {len(goal)} tokens of {vocabulary.decode(goal, copied)!r}"
        self._lengths = batch.source_lengths
        arrays = batch.source, batch.target_in, batch.target_out
        self._source, self._target_in, self._target_out = (Tensor(to_device(a.copy(), translator.device)) for a in arrays)
        special = {vocabulary.bos: "<s> ", vocabulary.eos: " </s>"}  # words of their own
        special |= dict.fromkeys(vocabulary.placeholders, " <copy>") | dict(zip(vocabulary.placeholders, copied, strict=False))
        both = ([special.get(i) or vocabulary.decode([i]) for i in a[0].tolist()] for a in (batch.source, batch.target_in))
        self._source_tokens, self._target_tokens = both
        self._vocabulary, self._special = vocabulary, special
        self.translator, self.source, self.ids, self.given = translator, source, np.append(vocabulary.bos, goal), target is not None

    def loss(self) -> Tensor:
        return ops.cross_entropy(self.output(), self._target_out)

    def output(self) -> Tensor:
        with set_recording(True), evaluating(self.model.modules()):
            return self.model(self._source, self._lengths, self._target_in)

    def copies(self, count: int) -> Tensor:
        return self.model(_repeated(self._source, count), np.repeat(self._lengths, count), _repeated(self._target_in, count))

    def token_id(self, text: str) -> int:
        named = {name.strip(): i for i, name in self._special.items()}
        return named.get(text) or _one_token(text, self._vocabulary.encode(text)[:-1].tolist())

    def encode(self, text: str) -> np.ndarray:
        return self._vocabulary.read(text)[0]

    def token_text(self, token: int) -> str:
        return self._special.get(token) or self._vocabulary.decode([token])

    def tokens(self, layer: str) -> tuple[str, list[str], list[str] | None]:
        if layer.startswith("encoder"):
            backwards = isinstance(self.model, RecurrentTranslator)  # it reads the source in reverse
            return "encoder", self._source_tokens[:: -1 if backwards else 1], None
        if layer.endswith(".cross"):
            return "source", self._target_tokens, self._source_tokens
        return "decoder", self._target_tokens, None


class ClassifierReading(Reading):
    """A classifier says of which class the text is."""

    tokenizer: Tokenizer
    labels: tuple[str, ...]

    def __init__(self, model: Module, tokenizer: Tokenizer, names: tuple[str, ...], text: str, label: str | None, device: str) -> None:
        """label: by default the one that the model finds more likely. Raises ConfigError for an unknown label; DataError for
        a text without words."""
        ids = encode_words(tokenizer, text)
        self.model = model.to(device)
        self.text, self.ids, self.tokenizer, self.labels = text, ids, tokenizer, names
        self._ids, self._lengths = Tensor(to_device(ids[None], device)), np.array([len(ids)])
        if label is None:
            label = names[int(classification.said(to_numpy(self.output().data))[0])]
        if label not in names:
            raise ConfigError(f"label {label!r}: expected {expected_labels(names)}")
        self.about = f"nats for the label {label!r}, over {len(ids)} words"
        self.label, self._class = label, names.index(label)
        self._tokens = token_texts(tokenizer, ids.tolist())

    def loss(self) -> Tensor:
        logits, label = self.output(), np.array([self._class])
        if logits.ndim > 1:
            return ops.cross_entropy(logits, Tensor(to_device(label, logits.device)))
        return ops.binary_cross_entropy_with_logits(logits, Tensor(to_device(label.astype(np.float32), logits.device)))

    def output(self) -> Tensor:
        with set_recording(True), evaluating(self.model.modules()):
            return self.model(self._ids, self._lengths)

    def encode(self, text: str) -> np.ndarray:
        return encode_words(self.tokenizer, text)

    def token_text(self, token: int) -> str:
        return token_texts(self.tokenizer, [token, token])[1]

    def copies(self, count: int) -> Tensor:
        logits = self.model(_repeated(self._ids, count), np.repeat(self._lengths, count))
        return logits[:, self._class] if logits.ndim > 1 else logits * (1 if self._class else -1)


def _repeated(ids: Tensor, count: int) -> Tensor:
    return ops.broadcast_to(ids, (count, *ids.shape[1:]))


def _one_token(text: str, ids: list[int]) -> int:
    if len(ids) != 1:
        raise ConfigError(f"the token {text!r:.60} is {len(ids)} tokens: expected one")
    return int(ids[0])


def read_run(
    folder: Path, text: str, device: str = "cpu", *, target: str | None = None, label: str | None = None, weights: Weights = "float32"
) -> Reading:
    """Has the model of any run read a text. target: what a translator is to write; label: what a classifier is to say; weights: of
    a language model, as `load_run` takes them.

    Raises CheckpointError if the folder is no run; ConfigError for a target or label that the model cannot use;
    what the readings raise.
    """
    own = find_pretrained(folder) is None
    record = read_json(folder / "config.json") if own and exists(folder / "config.json") else None
    task = task_of(record) if isinstance(record, dict) else None
    for name, value, its in (("target", target, TranslationConfig.task), ("label", label, ClassifierConfig.task)):
        if value is not None and task != its:
            raise ConfigError(f"{name} {value!r}: the run in {folder} is not one of {its}")
    device_namespace(device)
    if task == TranslationConfig.task:
        return TranslationReading(translation.load_translator(folder, device), text, target)
    if task == ClassifierConfig.task:
        model, tokenizer, names = classification.load_classifier(folder)
        return ClassifierReading(model, tokenizer, names, text, label, device)
    language_model, tokenizer, _ = load_run(folder, device, weights)
    return LanguageReading(language_model, tokenizer, text, device)
