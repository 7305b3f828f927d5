"""The record of a translator's training run: its settings, their defaults, and the model they describe."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tinylm.errors import CheckpointError, ConfigError
from tinylm.models.translator import RecurrentTranslator, TranslationModel, Translator
from tinylm.optim import AdamW, Muon, Optimizer
from tinylm.train.tasks.language_model_config import check_loop_settings


@dataclass(frozen=True)
class TranslationConfig:
    """A translator and its training. The settings of a model that another has no use for are ignored by it."""

    model: Literal["transformer", "lstm"] = "transformer"
    """an encoder-decoder Transformer, or two LSTMs without attention; each has defaults of its own"""
    data: str = "web-rv1909"
    """the shipped English-Spanish verses, or a UTF-8 file of lines 'source TAB target'"""
    bpe_size: int = 2048
    """how many byte-pair pieces both languages share"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    steps: int = 7000
    """the step to stop at; a stopped run can be resumed with more"""
    schedule_steps: int = 7000
    """the step at which the learning rate has come down to its minimum, whatever --steps says"""
    seed: int = 0
    """of weights, batches and dropout"""

    block_size: int = 128
    """the longest source or target in tokens, end included; longer pairs are left out"""
    n_layer: int = 2
    """layers of the encoder, and of the decoder"""
    n_head: int = 4
    """transformer: attention heads a layer"""
    n_embd: int = 128
    """width: of the embedding and the layers"""
    n_hidden: int = 384
    """transformer: width inside the feed-forward"""
    dropout: float = 0.1
    """probability of dropping an activation in training"""

    batch_tokens: int = 1024
    """target tokens a step at most, padding included"""
    label_smoothing: float = 0.1
    """share of the target's probability that is spread over all tokens in training"""
    embedding: Literal["latent", "random"] = "latent"
    """what the embedding starts as; latent: tokens that share many training pairs start close together"""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: for the matrices of the layers, with AdamW for all else; adamw: for everything"""
    matrix_lr: float = 0.02
    """muon: its peak learning rate"""
    lr: float = 2e-3
    """AdamW's peak learning rate, after the warmup"""
    min_lr: float = 1e-5
    """AdamW's learning rate at the end of the cosine; Muon's falls in the same proportion"""
    warmup: int = 200
    """steps of linear warmup"""
    weight_decay: float = 0.01
    """AdamW's decay of matrices; vectors have none"""
    clip: float = 1.0
    """the largest norm of all gradients together"""

    log_every: int = 10
    """steps between lines of metrics.jsonl"""
    eval_every: int = 1000
    """steps between validations; the best one is kept in checkpoints/"""
    save_every: int = 1000
    """steps between checkpoints to resume from"""
    save_minutes: float = 10.0
    """minutes after which there is a checkpoint in any case; 0: by steps alone"""
    keep: int = 3
    """how many of the last checkpoints are kept, beside the best"""
    ema: float = 0.0
    """decay of a moving average of the weights, which is validated and saved as the model; 0: none"""
    patience: int = 0
    """validations in a row without a better loss after which the run stops; 0: it goes on"""

    def __post_init__(self) -> None:
        for name in (
            "block_size",
            "n_layer",
            "n_hidden",
            "n_embd",
            "batch_tokens",
            "schedule_steps",
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected at least 1")
        for name in ("lr", "min_lr", "matrix_lr", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected at least 0")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}: expected 0 to below 1")
        check_loop_settings(self)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON takes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> "TranslationConfig":
        """The record that `to_json` gave. Errors: CheckpointError for one that does not fit."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        if not isinstance(record, dict) or set(record) != set(fields):
            raise CheckpointError("the translation's config does not fit this version of tinylm")
        for name, field in fields.items():
            value, choices, kind = record[name], get_args(field.type), field.type
            if not (value in choices if choices else type(value) is kind or (kind is float and type(value) is int)):
                raise CheckpointError(f"the translation's config does not fit: {name} is {value!r}")
        return cls(**record)


MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "transformer": {},
    "lstm": {"n_embd": 192, "dropout": 0.2, "steps": 6600, "schedule_steps": 6600},  # as long as the Transformer
}


def default_config(model: str) -> TranslationConfig:
    """The settings that `--model` brings. Errors: ConfigError for an unknown model."""
    if model not in MODEL_DEFAULTS:
        raise ConfigError(f"model {model!r}: expected one of {', '.join(MODEL_DEFAULTS)}")
    return dataclasses.replace(TranslationConfig(), model=model, **MODEL_DEFAULTS[model])  # type: ignore[arg-type]


def build_translator(config: TranslationConfig, vocab_size: int) -> TranslationModel:
    """The untrained model that the record describes."""
    if config.model == "lstm":
        return RecurrentTranslator(vocab_size, config.n_embd, config.n_layer, config.dropout)
    return Translator(
        vocab_size, config.n_embd, config.n_head, config.n_hidden, config.n_layer, config.dropout, max_len=config.block_size
    )  # fmt: skip


def parameter_groups(config: TranslationConfig, named: Iterable[tuple[str, Any]]) -> tuple[list[Any], list[Any], list[Any]]:
    """(Muon's, AdamW's with weight decay, AdamW's without) of a translator's named parameters, in
    tinylm or in PyTorch: the matrices of the layers, the other matrices, the vectors."""
    muon: list[Any] = []
    decayed: list[Any] = []
    plain: list[Any] = []
    for name, p in named:
        inside = config.optimizer == "muon" and not name.startswith("embedding.")
        (plain if p.ndim < 2 else muon if inside else decayed).append(p)
    return muon, decayed, plain


def build_translation_optimizer(config: TranslationConfig, model: TranslationModel) -> Optimizer:
    """Muon with AdamW, or AdamW alone; weight decay on matrices only."""
    muon, decayed, plain = parameter_groups(config, model.named_parameters())
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    settings: dict[str, Any] = {"betas": (0.9, 0.98), "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return AdamW(groups, lr=config.lr, **settings)
    adamw = [{**group, "lr": config.lr, "orthogonal": False} for group in groups]
    return Muon([*adamw, {"params": muon}], lr=config.matrix_lr, **settings)
