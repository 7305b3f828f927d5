"""The settings of a classifier's run, their defaults, and the model they describe."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tinylm.checks import check_fraction
from tinylm.data.labelled import SPLITS
from tinylm.engine.machine_memory import check_fits
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.errors import ConfigError
from tinylm.models import footprints
from tinylm.models.classifier import BagClassifier, Ensemble, LSTMClassifier, TextClassifier, TransformerClassifier
from tinylm.models.footprints import Footprint
from tinylm.train.tasks.settings import Settings, UpdateSettings

# What differs from ClassifierConfig's own defaults, which are the bag's. All were chosen on a validation
# part of the training parts, never on a test part.
_SEQUENCE = {"members": 5, "width": 32, "min_count": 2, "epochs": 8}
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "bag": {},
    "lstm": {**_SEQUENCE, "hidden": 32, "dropout": 0.5},
    "transformer": {**_SEQUENCE, "dropout": 0.3, "lr": 4e-3},
}


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(Settings):
    """The settings that classifiers alone have."""

    model: Literal["bag", "lstm", "transformer"] = "bag"
    """a bag of words and word pairs, a bidirectional LSTM or a Transformer encoder; each has defaults of its own"""
    data: str = "uci-sentences"
    """the shipped sentences, or a file of lines 'label TAB text'"""
    encoding: str = "utf-8"
    """of the file, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    split: int = 0
    """which of the five fixed 80/20 splits"""
    members: int = 3
    """an ensemble: how many models of the kind, with different weights, give the mean of their logits"""
    min_count: int = 1
    """words that the training part has fewer times become <unk>"""
    width: int = 8
    """of the embeddings"""
    buckets: int = 65536
    """bag: rows of the table that the word pairs share"""
    hidden: int = 64
    """lstm: units per direction; transformer: width inside the feed-forward"""
    layers: int = 1
    """lstm and transformer: layers"""
    heads: int = 4
    """transformer: attention heads"""
    word_dropout: float = 0.3
    """bag: probability of leaving out a word or word pair in training"""
    epochs: int = 12
    """times through the training part"""
    batch_size: int = 32
    """texts per step"""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(UpdateSettings, ClassifierSettings):
    """A classifier and its training. The settings of a model that another has no use for are ignored by it."""

    task: ClassVar[str] = "classification"
    model_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MODEL_DEFAULTS
    added: ClassVar[Mapping[str, Any]] = {**UpdateSettings.added, "encoding": "utf-8"}

    lr: float = 1e-2
    """learning rate at the start; it falls to zero along a straight line"""
    dropout: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "members", "epochs", "batch_size")
        check_fraction("word_dropout", self.word_dropout)


default_config = ClassifierConfig.of_model


def build_classifier(config: ClassifierConfig, vocab_size: int) -> Ensemble:
    """Returns the untrained model that the settings describe. Raises ConfigError for one that no memory could hold."""
    check_fits(footprint(config, vocab_size).loaded(), f"a classifier of {shape_text(config)}")

    def member() -> TextClassifier:
        if config.model == "bag":
            return BagClassifier(vocab_size, config.width, config.buckets, config.dropout, config.word_dropout)
        if config.model == "lstm":
            return LSTMClassifier(vocab_size, config.width, config.hidden, config.layers, config.dropout)
        return TransformerClassifier(vocab_size, config.width, config.heads, config.hidden, config.layers, config.dropout)

    return Ensemble(member() for _ in range(config.members))


def check_settings(config: ClassifierConfig) -> None:
    """Raises ConfigError for settings of a new run that no data could make right, so as to refuse them before the data are read.

    Much is checked where it is used: one member is made.
    """
    if not 0 <= config.split < SPLITS:
        raise ConfigError(f"split {config.split}: expected 0 to {SPLITS - 1}")
    with drawing_from(Generator(config.seed)):
        build_classifier(dataclasses.replace(config, members=1), 2)


def footprint(config: ClassifierConfig, vocab_size: int) -> Footprint:
    """Returns what the model that `build_classifier` would return holds."""
    c = config
    if c.model == "bag":
        one = footprints.bag_classifier(vocab_size, c.width, c.buckets)
    elif c.model == "lstm":
        one = footprints.lstm_classifier(vocab_size, c.width, c.hidden, c.layers)
    else:
        one = footprints.transformer_classifier(vocab_size, c.width, c.hidden, c.layers)
    return one.times(c.members)


def shape_text(config: ClassifierConfig) -> str:
    """Returns the settings that a model's size depends on, for messages."""
    c = config
    size = f"buckets {c.buckets}" if c.model == "bag" else f"hidden {c.hidden}, layers {c.layers}"
    return f"width {c.width}, {size}, members {c.members}"


def check_training_fits(config: ClassifierConfig, vocab_size: int) -> None:
    """Raises ConfigError if the weights, and one member's gradients and AdamW's two moments, are more than the memory."""
    size = footprint(config, vocab_size)
    check_fits(size.loaded() + 12 * (size.parameters // config.members), f"training a classifier of {shape_text(config)}")
