"""The settings of a language model's run, their defaults, and the model, optimiser and schedule they describe."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from tinylm.checks import check_finite, check_fraction, check_integer, check_positive
from tinylm.data import Corpus, open_corpus
from tinylm.engine.machine_memory import check_fits
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.engine.stored_weights import Weights
from tinylm.errors import ConfigError
from tinylm.models import GPT, Ensemble, GPTConfig, LanguageModel, Llama, LlamaConfig, NgramLM, RNNModel, TransformerModel, footprints
from tinylm.models.footprints import Footprint
from tinylm.optim import AdamW, Optimizer, Schedule
from tinylm.optim.groups import decay_groups
from tinylm.optim.schedules import StoredCosine
from tinylm.train.tasks.settings import SMALLEST_BPE, LoopSettings, Settings, Sources

# What differs from TrainConfig's own defaults, which are the GPT's.
_RECURRENT = {
    "n_layer": 2, "n_embd": 256, "n_hidden": 256, "block_size": 64, "batch_size": 32, "dropout": 0.1,
    "lr": 3e-3, "min_lr": 1e-4, "weight_decay": 0.01, "steps": 1000, "schedule_steps": 1000,
}  # fmt: skip
MODEL_DEFAULTS: dict[str, dict[str, Any]] = {
    "gpt": {},
    "llama": {"n_hidden": 344},  # with three matrices as many weights as GPT's two
    "transformer": {"dropout": 0.05},
    "rnn": {**_RECURRENT, "lr": 1e-3, "steps": 3000, "schedule_steps": 3000},
    "lstm": _RECURRENT,
    "gru": _RECURRENT,
    "ngram": {"steps": 1, "schedule_steps": 1, "warmup": 0},
}


@dataclass(frozen=True, kw_only=True)
class LanguageModelSettings(Settings):
    """The settings that language models alone have."""

    model: Literal["gpt", "llama", "transformer", "rnn", "lstm", "gru", "ngram"] = "gpt"
    """which language model to train; each has defaults of its own for what follows"""
    data: Sources = "tinyshakespeare"
    """a shipped corpus, a text file, or a folder of .txt, .text and .md files, or several of these; without --valid the last 10 %, or whole
    files, validate"""
    valid: str = ""
    """validate on this file or folder, and train on all of the data"""
    test: str = ""
    """a file or folder that neither trains nor validates: its loss is measured once, after training"""
    encoding: str = "utf-8"
    """of the text files, by Python's name: utf-8, latin-1, utf-16, cp1252, ..."""
    init: str = ""
    """go on from this trained model: a Hugging Face folder, a GGUF file, smollm2, or a run folder; its shape and tokenizer are kept"""
    extend_vocabulary: bool = False
    """with --init: add the characters of the data that the model does not know to its vocabulary, which is otherwise an error"""
    lora_rank: int = 0
    """with --init: train low-rank adapters of this rank beside the attention's projections, and leave the model as it is; 0: train all"""
    lora_alpha: float = 16.0
    """the adapters' correction is scaled by lora_alpha / lora_rank"""
    weights: Weights = "stored"
    """of a pretrained model under adapters: stored, its matrices as its file has them, in little memory; or float32. Both give the same
    numbers, and a resume may change it"""
    tokenizer: Literal["char", "word", "whitespace", "bpe"] = "char"
    """what a token is; whitespace: what stands between spaces, and a line break, as published perplexities count; a text may have <unk>"""
    min_count: int = 2
    """word tokenizer: rarer words become <unk>"""
    bpe_size: int = 1024
    """bpe tokenizer: how many pieces"""

    block_size: int = 64
    """context length in tokens; for recurrent models, how far back a gradient goes"""
    n_layer: int = 4
    """layers"""
    n_head: int = 4
    """attention heads per layer"""
    n_kv_head: int = 2
    """llama: heads of keys and values, each shared by n_head / n_kv_head heads of queries"""
    rope_theta: float = 10000.0
    """llama: base of the rotary positions' wavelengths"""
    n_embd: int = 128
    """width: of embeddings, and of a Transformer's layers"""
    n_hidden: int = 512
    """transformer and llama: width inside the feed-forward; recurrent models: hidden units per layer"""
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
    """blocks per step"""
    accumulate: int = 1
    """parts that the blocks of a step are computed in, one after the other, for less memory; only rounding and dropout masks change"""
    checkpoint_activations: bool = False
    """gpt, llama and transformer: compute each block again in the backward pass instead of keeping its values: slower, less memory"""
    beta1: float = 0.9
    """AdamW's decay of the mean gradient"""
    beta2: float = 0.99
    """AdamW's decay of the mean squared gradient"""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(LoopSettings, LanguageModelSettings):
    """A language model and its training. The defaults train a character GPT of 0.8 million parameters on Tiny Shakespeare.

    The settings of a model that another model has no use for are ignored by it.
    """

    task: ClassVar[str] = "language modeling"
    model_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = MODEL_DEFAULTS
    added: ClassVar[Mapping[str, Any]] = {
        **LoopSettings.added, "min_count": 2, "bpe_size": 1024, "n_hidden": 512, "nonlinearity": "tanh", "order": 7, "dropout_ramp": 0,
        "members": 1, "encoding": "utf-8", "accumulate": 1, "checkpoint_activations": False, "n_kv_head": 2, "rope_theta": 10000.0,
        "init": "", "lora_rank": 0, "lora_alpha": 16.0, "weights": "float32", "valid": "", "test": "", "extend_vocabulary": False,
    }  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_at_least(1, "batch_size", "block_size", "members", "n_hidden")
        self.require_at_least(0, "dropout_ramp")
        check_fraction("input_dropout", self.input_dropout)
        if self.eval_tokens == 1:
            raise ConfigError("eval_tokens is 1: expected at least 2, since the first token is not scored, or 0 for all")
        if not 1 <= self.accumulate <= self.batch_size:
            raise ConfigError(f"accumulate is {self.accumulate}: expected 1 to batch_size {self.batch_size}")

    def check_new(self) -> None:
        super().check_new()
        self.require_at_least(1, "n_layer")
        self.require_at_least(0, "min_count", "lora_rank")
        check_positive(lora_alpha=self.lora_alpha, rope_theta=check_finite("rope_theta", self.rope_theta))
        if self.tokenizer == "bpe" and not self.init:
            check_integer("bpe_size", self.bpe_size, SMALLEST_BPE)
        if self.extend_vocabulary and not self.init:
            raise ConfigError("extend_vocabulary is True: it needs init, the trained model whose vocabulary is extended")

    @classmethod
    def old_values(cls, record: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns what runs did for which a later setting is not recorded, by its name."""
        return {**cls.added, "input_dropout": record.get("dropout")}  # one probability was for the embedding too


default_config = TrainConfig.of_model


RECURRENT = ("rnn", "lstm", "gru")  # models that carry a state from batch to batch


def corpus_of(config: TrainConfig) -> Corpus:
    """Opens the texts that a run trains, validates and is tested on. Raises as `open_corpus` does."""
    return open_corpus(config.data, config.encoding, config.valid, config.test)


def build_model(config: TrainConfig, vocab_size: int) -> LanguageModel:
    """Returns the untrained neural model that the settings describe. Raises ConfigError for one that no memory could hold."""
    check_fits(footprint(config, vocab_size).loaded(), f"a {config.model} of {shape_text(config)}")
    if config.members > 1:
        one = dataclasses.replace(config, members=1)
        return Ensemble([build_model(one, vocab_size) for _ in range(config.members)])
    if config.model == "gpt":
        return set_checkpointing(GPT(GPTConfig(vocab_size=vocab_size, **shape_of(config, GPTConfig))), config)
    if config.model == "llama":
        biases: dict[str, Any] = {"attention_bias": config.bias, "mlp_bias": config.bias}
        return set_checkpointing(Llama(LlamaConfig(vocab_size=vocab_size, **shape_of(config, LlamaConfig), **biases)), config)
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


def footprint(config: TrainConfig, vocab_size: int) -> Footprint:
    """Returns what the model that `build_model` would return holds."""
    c = config
    if c.model == "gpt":
        one = footprints.gpt(vocab_size, c.block_size, c.n_layer, c.n_embd, c.bias)
    elif c.model == "llama":
        one = footprints.llama(vocab_size, c.n_layer, c.n_embd, max(c.n_head, 1), c.n_kv_head, c.n_hidden, c.bias)
    elif c.model == "transformer":
        one = footprints.transformer_lm(vocab_size, c.n_layer, c.n_embd, c.n_hidden)
    else:
        one = footprints.rnn_lm(c.model, vocab_size, c.n_layer, c.n_embd, c.n_hidden)
    return one.times(c.members)


def shape_text(config: TrainConfig) -> str:
    """Returns the settings that a model's size depends on, for messages."""
    return f"n_layer {config.n_layer}, n_embd {config.n_embd}, n_hidden {config.n_hidden}, members {config.members}"


def check_training_fits(config: TrainConfig, vocab_size: int, ranks: int = 1) -> None:
    """Raises ConfigError if a step's weights, gradients, AdamW's two moments, and one array per layer that the backward pass
    needs, are more than the memory. On a GPU nothing is known of it here."""
    if config.device != "cpu":
        return
    size = footprint(config, vocab_size)
    rows = -(-config.batch_size // (config.accumulate * ranks))
    kept = rows * config.block_size * (config.n_hidden if config.model in RECURRENT else config.n_embd) * config.members * config.n_layer
    weights = size.trained(states=2 + bool(config.ema)) if not config.init else 0
    what = f"training a {config.model} of {shape_text(config)} with batch_size {config.batch_size} and block_size {config.block_size}"
    check_fits(weights + 4 * kept, what)


def check_settings(config: TrainConfig) -> None:
    """Raises ConfigError for settings of a new run that no data could make right, so as to refuse them before a large text is read.

    Much is checked where it is used: a model with one of the layers is made, and its optimiser.
    """
    generator = Generator(config.seed)
    if config.model == "ngram":
        NgramLM(1, config.order)
    elif not config.init:
        config.require_at_least(1, "n_embd")
        with drawing_from(generator):
            build_optimizer(config, build_model(dataclasses.replace(config, n_layer=min(config.n_layer, 1), members=1), 1))


def shape_of(config: TrainConfig, kind: type[GPTConfig] | type[LlamaConfig]) -> dict[str, Any]:
    """Returns the settings that a model's config has under the same names."""
    return {f.name: vars(config)[f.name] for f in dataclasses.fields(kind) if f.name in vars(config)}


def set_checkpointing(model: LanguageModel, config: TrainConfig) -> LanguageModel:
    """Returns the model, which computes its blocks again in the backward pass if the settings say so; a recurrent one has none."""
    for _, module in model.named_modules():
        if hasattr(module, "checkpoint_activations"):
            module.checkpoint_activations = config.checkpoint_activations
    return model


def build_optimizer(config: TrainConfig, model: LanguageModel) -> Optimizer:
    """Returns AdamW with weight decay on matrices only."""
    return AdamW(decay_groups(model.named_parameters(), config.weight_decay), lr=config.lr, betas=(config.beta1, config.beta2))


def build_schedule(config: TrainConfig) -> Schedule:
    """Returns a linear warmup, then half a cosine."""
    return StoredCosine(config.lr, config.min_lr, config.warmup, config.schedule_steps)
