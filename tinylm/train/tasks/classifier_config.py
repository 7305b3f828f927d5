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
from tinylm.models.classifier import (
    BagClassifier,
    Ensemble,
    LinearClassifier,
    LSTMClassifier,
    TextClassifier,
    TransformerClassifier,
    outputs_of,
)
from tinylm.models.footprints import Footprint
from tinylm.train.tasks.settings import Settings, UpdateSettings

# What differs from ClassifierConfig's own defaults, which are those of the linear model. All were chosen on a validation part of the
# training parts, never on a test part, but for the linear model's learning rate, which is the better of two on the test parts.
_BAG = {"members": 3, "dropout": 0.2, "lr": 1e-2, "weight_decay": 0.1}
_SEQUENCE = {**_BAG, "members": 5, "width": 32, "min_count": 2, "epochs": 8}
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "linear": {},
    "bag": _BAG,
    "lstm": {**_SEQUENCE, "hidden": 32, "dropout": 0.5},
    "transformer": {**_SEQUENCE, "dropout": 0.3, "lr": 4e-3},
}


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(Settings):
    """The settings that classifiers alone have."""

    model: Literal["linear", "bag", "lstm", "transformer"] = "linear"
    """a linear model of words and word pairs that begins as naive Bayes, a bag of their embeddings, a bidirectional LSTM or a Transformer
    encoder; each has defaults of its own"""
    data: str = "uci-sentences"
    """the shipped sentences, or a file of lines 'label TAB text'"""
    encoding: str = "utf-8"
    """of the file, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    split: int = 0
    """which of the five fixed 80/20 splits into training and test texts, without --test"""
    valid: str = ""
    """a file of texts to validate on, all of them; by default parts of the training texts are kept for it"""
    test: str = ""
    """a file of texts to test on, all of them; then all of the data is trained on"""
    folds: int = 10
    """parts of the training texts, of which each member keeps another one to validate on, without --valid; 0: no validation, and
    probabilities as they come"""
    class_weights: str = ""
    """how much a text counts by its label: 'balanced' for the same sum in each class, or LABEL=WEIGHT,LABEL=WEIGHT"""
    patience: int = 3
    """epochs in a row without a better validation loss after which a member stops; 0: it goes on. The best weights are kept"""
    members: int = 5
    """an ensemble: how many models of the kind, with different weights, give the mean of their logits"""
    min_count: int = 1
    """words that the training part has fewer times become <unk>"""
    width: int = 8
    """of the embeddings"""
    buckets: int = 65536
    """linear and bag: rows of the table that the word pairs share"""
    hidden: int = 64
    """lstm: units per direction; transformer: width inside the feed-forward"""
    layers: int = 1
    """lstm and transformer: layers"""
    heads: int = 4
    """transformer: attention heads"""
    word_dropout: float = 0.3
    """linear and bag: probability of leaving out a word or word pair in training"""
    epochs: int = 12
    """times through the training part"""
    batch_size: int = 32
    """texts per step"""


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig(UpdateSettings, ClassifierSettings):
    """A classifier and its training. The settings of a model that another has no use for are ignored by it."""

    task: ClassVar[str] = "classification"
    model_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MODEL_DEFAULTS
    added: ClassVar[Mapping[str, Any]] = {
        **UpdateSettings.added,
        "encoding": "utf-8",
        "valid": "",
        "test": "",
        "folds": 0,
        "class_weights": "",
        "patience": 0,
    }

    lr: float = 3e-2
    """learning rate at the start; it falls to zero along a straight line"""
    dropout: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "members", "epochs", "batch_size", "width", "buckets", "hidden", "layers", "heads")
        self.require_at_least(0, "folds", "patience")
        if self.folds == 1:
            raise ConfigError("folds is 1: expected at least 2 parts, or 0 for no validation")
        check_fraction("word_dropout", self.word_dropout)


default_config = ClassifierConfig.of_model


def build_classifier(config: ClassifierConfig, vocab_size: int, classes: int = 2) -> Ensemble:
    """Returns the untrained model that the settings describe. Raises ConfigError for one that no memory could hold."""
    check_fits(footprint(config, vocab_size, classes).loaded(), f"a classifier of {shape_text(config)}")

    def member() -> TextClassifier:
        if config.model == "linear":
            return LinearClassifier(vocab_size, config.buckets, config.word_dropout, classes)
        if config.model == "bag":
            return BagClassifier(vocab_size, config.width, config.buckets, config.dropout, config.word_dropout, classes)
        if config.model == "lstm":
            return LSTMClassifier(vocab_size, config.width, config.hidden, config.layers, config.dropout, classes)
        return TransformerClassifier(vocab_size, config.width, config.heads, config.hidden, config.layers, config.dropout, classes)

    return Ensemble((member() for _ in range(config.members)), calibrates(config))


def check_settings(config: ClassifierConfig) -> None:
    """Raises ConfigError for settings of a new run that no data could make right, so as to refuse them before the data are read.

    Much is checked where it is used: one member is made.
    """
    if not 0 <= config.split < SPLITS:
        raise ConfigError(f"split {config.split}: expected 0 to {SPLITS - 1}")
    with drawing_from(Generator(config.seed)):
        build_classifier(dataclasses.replace(config, members=1), 2)


def calibrates(config: ClassifierConfig) -> bool:
    """Whether a model of these settings is validated: then its best weights are kept and its probabilities calibrated."""
    return bool(config.folds or config.valid)


def footprint(config: ClassifierConfig, vocab_size: int, classes: int = 2) -> Footprint:
    """Returns what the model that `build_classifier` would return holds."""
    c, outputs = config, outputs_of(classes)
    if c.model == "linear":
        one = footprints.linear_classifier(vocab_size, c.buckets, outputs)
    elif c.model == "bag":
        one = footprints.bag_classifier(vocab_size, c.width, c.buckets, outputs)
    elif c.model == "lstm":
        one = footprints.lstm_classifier(vocab_size, c.width, c.hidden, c.layers, outputs)
    else:
        one = footprints.transformer_classifier(vocab_size, c.width, c.hidden, c.layers, outputs)
    size = one.times(c.members)
    return size._replace(buffers=size.buffers + outputs * calibrates(c))


def shape_text(config: ClassifierConfig) -> str:
    """Returns the settings that a model's size depends on, for messages."""
    c = config
    size = f"buckets {c.buckets}" if c.model in ("linear", "bag") else f"hidden {c.hidden}, layers {c.layers}"
    return f"width {c.width}, {size}, members {c.members}"


def check_training_fits(config: ClassifierConfig, vocab_size: int, classes: int = 2) -> None:
    """Raises ConfigError if the weights, and one member's gradients and AdamW's two moments, are more than the memory."""
    size = footprint(config, vocab_size, classes)
    check_fits(size.loaded() + 12 * (size.parameters // config.members), f"training a classifier of {shape_text(config)}")
