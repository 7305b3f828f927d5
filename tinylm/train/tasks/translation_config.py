"""The settings of a translator's run, their defaults, and the model and optimiser they describe."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from tinylm.checks import check_below_one, check_fraction, check_integer
from tinylm.data.pairs import Vocabulary
from tinylm.data.tokenizers import BpeTokenizer, Tokenizer
from tinylm.engine.machine_memory import check_fits
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.errors import CheckpointError, DataError
from tinylm.files.json_files import read_json
from tinylm.models import footprints
from tinylm.models.footprints import Footprint
from tinylm.models.translator import RecurrentTranslator, TranslationModel, Translator
from tinylm.optim import AdamW, Muon, Optimizer
from tinylm.optim.groups import decay_groups
from tinylm.train.tasks.settings import SMALLEST_BPE, Fallback, FallbackSteps, LoopSettings, Settings, Sources

MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "transformer": {},
    "lstm": {"n_embd": 192, "dropout": 0.2, "steps": 6600, "schedule_steps": 6600},  # as long as the Transformer
}


@dataclass(frozen=True, kw_only=True)
class TranslatorSettings(Settings):
    """The settings that translators alone have."""

    model: Literal["transformer", "lstm"] = "transformer"
    """an encoder-decoder Transformer, or two LSTMs without attention; each has defaults of its own"""
    data: Sources = "web-rv1909"
    """the shipped English-Spanish verses, or a file of lines 'source TAB target' or CSV, or several of these"""
    valid: str = ""
    """validate on the pairs of this file, instead of 5 % of the data"""
    test: str = ""
    """test on the pairs of this file, instead of 5 % of the data"""
    encoding: str = "utf-8"
    """of the file, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    bpe_size: int = 2048
    """how many byte-pair pieces both languages share"""

    copy: float = 0.05
    """how many further training pairs there are, per pair, in which words and their translations are placeholders; from them the model
    learns to copy names, numbers and characters that it cannot know. 0: it copies nothing"""
    lower: bool = False
    """read and write everything in lower case, except for what is copied"""

    block_size: int = 128
    """the longest source or target in tokens, end included; longer pairs are left out"""
    n_layer: int = 2
    """layers of the encoder, and of the decoder"""
    n_head: int = 4
    """transformer: attention heads per layer"""
    n_embd: int = 128
    """width: of the embedding and the layers"""
    n_hidden: int = 384
    """transformer: width inside the feed-forward"""

    batch_tokens: int = 1024
    """at most so many target tokens per step, padding included"""
    label_smoothing: float = 0.1
    """fraction of the target's probability that is spread over all tokens in training"""
    embedding: Literal["latent", "random"] = "latent"
    """what the embedding starts as; latent: tokens that share many training pairs start close together"""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: for the matrices of the layers, with AdamW for all else; adamw: for everything"""
    matrix_lr: float = 0.02
    """muon: its peak learning rate"""


@dataclass(frozen=True, kw_only=True)
class TranslationConfig(LoopSettings, TranslatorSettings):
    """A translator and its training. The settings of a model that another has no use for are ignored by it."""

    task: ClassVar[str] = "translation"
    model_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MODEL_DEFAULTS
    added: ClassVar[Mapping[str, Any]] = {
        **LoopSettings.added, "optimizer": "adamw", "matrix_lr": 0.02, "embedding": "random", "encoding": "utf-8",
        "valid": "", "test": "", "copy": 0.0, "lower": False,
    }  # fmt: skip

    lr: float = 2e-3
    """AdamW's peak learning rate, after the warmup"""
    min_lr: float = Fallback(1e-5)
    """AdamW's learning rate at the end of the cosine, if only lr is given at most a tenth of it; Muon's falls in the same proportion"""

    steps: int = 7000
    schedule_steps: int = 7000
    dropout: float = 0.1
    warmup: int = FallbackSteps(200)
    weight_decay: float = 0.01
    eval_every: int = 1000
    save_every: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "block_size", "n_layer", "n_hidden", "n_embd", "batch_tokens")
        self.require_at_least(0, "matrix_lr")
        check_below_one("label_smoothing", self.label_smoothing)
        check_fraction("copy", self.copy)

    def check_new(self) -> None:
        super().check_new()
        check_integer("bpe_size", self.bpe_size, SMALLEST_BPE)


default_config = TranslationConfig.of_model


def build_translator(config: TranslationConfig, vocab_size: int) -> TranslationModel:
    """Returns the untrained model that the settings describe. Raises ConfigError for one that no memory could hold."""
    check_fits(footprint(config, vocab_size).loaded(), f"a translator of {shape_text(config)}")
    if config.model == "lstm":
        return RecurrentTranslator(vocab_size, config.n_embd, config.n_layer, config.dropout)
    return Translator(
        vocab_size, config.n_embd, config.n_head, config.n_hidden, config.n_layer, config.dropout, max_len=config.block_size
    )  # fmt: skip


def footprint(config: TranslationConfig, vocab_size: int) -> Footprint:
    """Returns what the model that `build_translator` would return holds."""
    c = config
    if c.model == "lstm":
        return footprints.recurrent_translator(vocab_size, c.n_embd, c.n_layer)
    return footprints.translator(vocab_size, c.n_embd, c.n_hidden, c.n_layer, c.block_size)


def shape_text(config: TranslationConfig) -> str:
    """Returns the settings that a model's size depends on, for messages."""
    return f"n_layer {config.n_layer}, n_embd {config.n_embd}, n_hidden {config.n_hidden}, block_size {config.block_size}"


def check_training_fits(config: TranslationConfig, vocab_size: int) -> None:
    """Raises ConfigError if the weights, gradients and moments (Muon has one per weight) are more than the memory of a CPU."""
    if config.device == "cpu":
        states = (1 if config.optimizer == "muon" else 2) + bool(config.ema)
        check_fits(footprint(config, vocab_size).trained(states), f"training a translator of {shape_text(config)}")


def check_settings(config: TranslationConfig) -> None:
    """Raises ConfigError for settings of a new run that no data could make right, so as to refuse them before the data are read.

    Much is checked where it is used: a model with one of the layers is made, and its optimiser.
    """
    with drawing_from(Generator(config.seed)):
        build_translation_optimizer(config, build_translator(dataclasses.replace(config, n_layer=1), SMALLEST_BPE))


def parameter_groups(config: TranslationConfig, named: Iterable[tuple[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Returns (Muon's, AdamW's) of a translator's named parameters, in tinylm or in PyTorch: the matrices of the layers, and the rest,
    both as pairs (name, parameter)."""
    muon: list[Any] = []
    rest: list[Any] = []
    for name, p in named:
        inside = config.optimizer == "muon" and p.ndim >= 2 and not name.startswith("embedding.")
        (muon if inside else rest).append((name, p))
    return muon, rest


def build_translation_optimizer(config: TranslationConfig, model: TranslationModel) -> Optimizer:
    """Returns Muon with AdamW, or AdamW alone; weight decay on matrices only."""
    muon, rest = parameter_groups(config, model.named_parameters())
    betas = (0.9, 0.98)
    if config.optimizer == "adamw":
        return AdamW(decay_groups(rest, config.weight_decay), lr=config.lr, betas=betas)
    groups = decay_groups(rest, config.weight_decay, lr=config.lr, orthogonal=False)
    return Muon([*groups, {"params": muon}], lr=config.matrix_lr, betas=betas, weight_decay=config.weight_decay)


def vocabulary_of(folder: Path, config: TranslationConfig, tokenizer: Tokenizer) -> Vocabulary:
    """Returns the vocabulary of a translator's run. Raises CheckpointError when its tokenizer is not one of byte pairs, or its record does
    not fit."""
    place = folder / "config.json"
    if not isinstance(tokenizer, BpeTokenizer):
        raise CheckpointError(f"{place} is damaged: its tokenizer is {tokenizer.kind!r}, expected 'bpe'")
    try:
        vocabulary = Vocabulary.from_json(tokenizer, read_json(place).get("vocabulary"), config.lower)
    except DataError as error:
        raise CheckpointError(f"{place} is damaged: {error}") from error
    if (vocabulary.known is None) != (config.copy == 0):
        found = "no known text" if vocabulary.known is None else "a known text"
        raise CheckpointError(f"{place} is damaged: copy is {config.copy:g}, but its vocabulary has {found}")
    return vocabulary
