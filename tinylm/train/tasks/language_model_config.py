"""Everything a training run is made of, as one frozen record: the command line is derived from it
and the run folder stores it."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from tinylm.errors import CheckpointError, ConfigError
from tinylm.models import GPT, Ensemble, GPTConfig, LanguageModel, Llama, LlamaConfig, RNNModel, TransformerModel
from tinylm.optim import AdamW, Optimizer, Schedule, WarmupCosine


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The defaults train a character GPT of 0.8 million parameters on Tiny Shakespeare.

    The settings of a model that another model has no use for are ignored by it.
    """

    model: Literal["gpt", "llama", "transformer", "rnn", "lstm", "gru", "ngram"] = "gpt"
    """which language model to train; each has defaults of its own for what follows"""
    data: str = "tinyshakespeare"
    """a shipped corpus, a text file, or a folder of .txt, .text and .md files; the last 10 %, or whole files, validate"""
    encoding: str = "utf-8"
    """of the text files, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    init: str = ""
    """go on from this trained model: a Hugging Face folder, a GGUF file, smollm2, or a run folder; its shape and tokenizer are kept"""
    lora_rank: int = 0
    """with --init: train low-rank adapters of this rank beside the attention's projections, and leave the model as it is; 0: train all"""
    lora_alpha: float = 16.0
    """the adapters' correction is scaled by lora_alpha / lora_rank"""
    tokenizer: Literal["char", "word", "bpe"] = "char"
    """what a token is"""
    min_count: int = 2
    """word tokenizer: rarer words become <unk>"""
    bpe_size: int = 1024
    """bpe tokenizer: how many pieces"""
    device: str = "cpu"
    """'cpu', 'cuda' or 'cuda:N'"""
    steps: int = 2000
    """the step to stop at; a stopped run can be resumed with more"""
    schedule_steps: int = 2000
    """the step at which the learning rate has come down to its minimum, whatever --steps says"""
    seed: int = 0
    """of weights, batches and dropout"""

    block_size: int = 64
    """context length in tokens; for recurrent models, how far back a gradient goes"""
    n_layer: int = 4
    """layers"""
    n_head: int = 4
    """attention heads a layer"""
    n_kv_head: int = 2
    """llama: heads of keys and values, each shared by n_head / n_kv_head heads of queries"""
    rope_theta: float = 10000.0
    """llama: base of the rotary positions' wavelengths"""
    n_embd: int = 128
    """width: of embeddings, and of a Transformer's layers"""
    n_hidden: int = 512
    """transformer and llama: width inside the feed-forward; recurrent models: hidden units a layer"""
    dropout: float = 0.0
    """probability of dropping an activation in training"""
    input_dropout: float = 0.0
    """recurrent models: probability of dropping a feature of the embedding; dropout is for the layers' outputs"""
    dropout_ramp: int = 0
    """steps over which the probabilities of dropping rise from 0 to their values; 0: they have them from the start"""
    bias: bool = False
    """gpt: biases in projections and layer norms; llama: in projections"""
    nonlinearity: Literal["tanh", "relu", "sigmoid"] = "tanh"
    """rnn: of the hidden state"""
    members: int = 1
    """models of different initial weights, trained side by side, whose probabilities are averaged"""
    order: int = 7
    """ngram: a token depends on the order - 1 before it"""

    batch_size: int = 12
    """blocks a step"""
    accumulate: int = 1
    """micro-batches that a step's blocks are worked through in, for less memory; the gradient is the same"""
    checkpoint_activations: bool = False
    """gpt, llama and transformer: compute each block again in the backward pass instead of keeping its values: slower, less memory"""
    lr: float = 1e-3
    """peak learning rate, after the warmup"""
    min_lr: float = 1e-4
    """learning rate at the end of the cosine"""
    warmup: int = 100
    """steps of linear warmup"""
    beta1: float = 0.9
    """AdamW's decay of the mean gradient"""
    beta2: float = 0.99
    """AdamW's decay of the mean squared gradient"""
    weight_decay: float = 0.1
    """AdamW's decay of matrices; vectors have none"""
    clip: float = 1.0
    """the largest norm of all gradients together"""

    log_every: int = 10
    """steps between lines of metrics.jsonl"""
    eval_every: int = 500
    """steps between validations; the best one is kept in checkpoints/"""
    save_every: int = 500
    """steps between checkpoints to resume from"""
    save_minutes: float = 10.0
    """minutes after which there is a checkpoint in any case; 0: by steps alone"""
    keep: int = 3
    """how many of the last checkpoints are kept, beside the best"""
    ema: float = 0.0
    """decay of a moving average of the weights, which is validated and saved as the model; 0: none, 0.999 is usual"""
    patience: int = 0
    """validations in a row without a better loss after which the run stops; 0: it goes on"""

    def __post_init__(self) -> None:
        for name in ("batch_size", "block_size", "members", "n_layer", "n_hidden", "schedule_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected at least 1")
        for name in ("lr", "min_lr", "weight_decay", "dropout_ramp"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}: expected at least 0")
        if not 1 <= self.accumulate <= self.batch_size:
            raise ConfigError(f"accumulate is {self.accumulate}: expected 1 to batch_size {self.batch_size}")
        check_loop_settings(self)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON takes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> "TrainConfig":
        """The record that `to_json` gave. Errors: CheckpointError naming what does not fit."""
        if not isinstance(record, dict):
            raise CheckpointError("the run's config is not a record")
        names = {f.name for f in dataclasses.fields(cls)}
        if set(record) != names:
            raise CheckpointError(
                f"the run's config does not fit: missing {sorted(names - set(record))}, unexpected {sorted(set(record) - names)}"
            )
        for field in dataclasses.fields(cls):
            value, choices, kind = record[field.name], get_args(field.type), field.type
            if not (value in choices if choices else type(value) is kind or (kind is float and type(value) is int)):
                raise CheckpointError(f"the run's config does not fit: {field.name} is {value!r}")
        return cls(**record)


def check_loop_settings(config: Any) -> None:
    """What every kind of run is steered by. Errors: ConfigError naming the setting."""
    for name in ("log_every", "eval_every", "save_every", "keep"):
        if getattr(config, name) < 1:
            raise ConfigError(f"{name} is {getattr(config, name)}: expected at least 1")
    for name in ("steps", "save_minutes", "patience"):
        if not getattr(config, name) >= 0:
            raise ConfigError(f"{name} is {getattr(config, name)}: expected at least 0")
    if not config.clip > 0:
        raise ConfigError(f"clip is {config.clip}: expected more than 0")
    if not 0 <= config.ema < 1:
        raise ConfigError(f"ema is {config.ema}: expected 0 up to, not including, 1")


RECURRENT = ("rnn", "lstm", "gru")  # models that carry a state from batch to batch

# What differs from TrainConfig's own defaults, which are the GPT's.
_RECURRENT = {
    "n_layer": 2, "n_embd": 256, "n_hidden": 256, "block_size": 64, "batch_size": 32, "dropout": 0.1,
    "lr": 3e-3, "min_lr": 1e-4, "weight_decay": 0.01, "steps": 1000, "schedule_steps": 1000,
}  # fmt: skip
FINE_TUNING = {"block_size": 256, "batch_size": 4, "lr": 5e-5, "min_lr": 5e-6, "warmup": 20, "weight_decay": 0.01,
               "steps": 200, "schedule_steps": 200, "eval_every": 50, "save_every": 50, "log_every": 5}  # fmt: skip
ADAPTERS = {"lr": 1e-3, "min_lr": 1e-4}  # small and new, they take larger steps
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "gpt": {},
    "llama": {"n_hidden": 344},  # with three matrices as many weights as GPT's two
    "transformer": {"dropout": 0.05},
    "rnn": {**_RECURRENT, "lr": 1e-3, "steps": 3000, "schedule_steps": 3000},
    "lstm": _RECURRENT,
    "gru": _RECURRENT,
    "ngram": {"steps": 1, "schedule_steps": 1, "warmup": 0},
}


def default_config(model: str) -> TrainConfig:
    """The settings that `--model` brings. Errors: ConfigError for an unknown model."""
    if model not in MODEL_DEFAULTS:
        raise ConfigError(f"model {model!r}: expected one of {', '.join(MODEL_DEFAULTS)}")
    return dataclasses.replace(TrainConfig(), model=model, **MODEL_DEFAULTS[model])  # type: ignore[arg-type]


def build_model(config: TrainConfig, vocab_size: int) -> LanguageModel:
    """The untrained neural model that the record describes."""
    if config.members > 1:
        one = dataclasses.replace(config, members=1)
        return Ensemble([build_model(one, vocab_size) for _ in range(config.members)])
    if config.model == "gpt":
        shape = {f.name: getattr(config, f.name) for f in dataclasses.fields(GPTConfig) if hasattr(config, f.name)}
        return set_checkpointing(GPT(GPTConfig(vocab_size=vocab_size, **shape)), config)
    if config.model == "llama":
        names = {f.name for f in dataclasses.fields(LlamaConfig)} & {f.name for f in dataclasses.fields(TrainConfig)}
        shape = {name: getattr(config, name) for name in names} | {"attention_bias": config.bias, "mlp_bias": config.bias}
        return set_checkpointing(Llama(LlamaConfig(vocab_size=vocab_size, **shape)), config)
    if config.model == "transformer":
        model = TransformerModel(vocab_size, config.n_embd, config.n_head, config.n_hidden, config.n_layer, config.dropout)
        longest = model.pos_encoder.pe.shape[0]
        if config.block_size > longest:
            raise ConfigError(f"block_size is {config.block_size}: a transformer has positions for {longest} at most")
        model.block_size = config.block_size  # the lengths it is trained on; its positions would go further
        return set_checkpointing(model, config)
    return RNNModel(
        config.model, vocab_size, config.n_embd, config.n_hidden, config.n_layer, config.dropout,
        nonlinearity=config.nonlinearity, input_dropout=config.input_dropout,
    )  # fmt: skip


def set_checkpointing(model: LanguageModel, config: TrainConfig) -> LanguageModel:
    """The model, which computes its blocks again in the backward pass if the record says so; a recurrent one has none."""
    for _, module in model.named_modules():
        if hasattr(module, "checkpoint_activations"):
            module.checkpoint_activations = config.checkpoint_activations
    return model


def build_optimizer(config: TrainConfig, model: LanguageModel) -> Optimizer:
    """AdamW with weight decay on matrices only."""
    groups = [
        {"params": [p for p in model.parameters() if p.requires_grad and p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in model.parameters() if p.requires_grad and p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([g for g in groups if g["params"]], lr=config.lr, betas=(config.beta1, config.beta2))


def build_schedule(config: TrainConfig) -> Schedule:
    """Linear warmup, then half a cosine."""
    return WarmupCosine(config.lr, config.min_lr, config.warmup, config.schedule_steps)
