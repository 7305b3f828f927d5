"""Trains language models on the copy task, and tests how far back they remember."""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from tinylm import ops
from tinylm.data.copy_task import IGNORED, CopyTask
from tinylm.decode.stepping import checked_logits, evaluation_mode
from tinylm.engine.random_keys import Generator, drawing_from, philox
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models import LanguageModel, NgramLM, RNNModel
from tinylm.studies.recurrent_starts import start_recurrent
from tinylm.train.records import Report
from tinylm.train.tasks.language_model_config import TrainConfig, build_model, build_optimizer, build_schedule, default_config


class Copier(NamedTuple):
    """A model of the study: its kind, the settings that differ from the common ones, and how a plain RNN's weights start."""

    kind: str
    settings: dict[str, Any]
    start: str = "uniform"


# All have about as many parameters but the GPT, which has three times as many. 1e-3 is the plain RNN's best learning rate of 1e-4 to 3e-3
# without the curriculum; the others learn the whole task with the first one tried. Each has as many steps as it needs to come to gaps of
# 100; a step of the plain RNN is the cheapest.
_COMMON = {"dropout": 0.0, "batch_size": 32, "warmup": 100, "min_lr": 1e-5, "weight_decay": 0.0, "log_every": 500}
_PLAIN = {"n_layer": 1, "n_embd": 128, "n_hidden": 128, "lr": 1e-3, "steps": 6000}
_GATED = {"n_layer": 1, "n_embd": 64, "n_hidden": 64, "lr": 3e-3, "steps": 1500}
COPIERS = {
    "ngram": Copier("ngram", {"steps": 3000}),
    "rnn": Copier("rnn", _PLAIN),
    **{
        f"rnn-{nonlinearity}-{start}": Copier("rnn", {**_PLAIN, "nonlinearity": nonlinearity}, start)
        for nonlinearity in ("tanh", "relu", "sigmoid")
        for start in ("identity", "orthogonal")
    },
    "lstm": Copier("lstm", _GATED),
    "gru": Copier("gru", _GATED),
    "gpt": Copier("gpt", {"n_layer": 2, "n_embd": 64, "lr": 1e-3, "steps": 1500}),
}
_TESTING = 1 << 32  # added to the gap: the key of a random stream that no training step uses


class Curriculum:
    """The longest gap of the training sequences, `now`. It is 1 at first. Whenever the mean loss of 50 steps is below a tenth of
    what guessing costs, ln(symbols), it becomes about half as long again, up to `longest`. Not gradual: it is `longest` at once."""

    def __init__(self, task: CopyTask, longest: int, gradual: bool = True) -> None:
        self.longest, self.enough = longest, 0.1 * math.log(task.symbols)
        self.now = 1 if gradual else longest
        self.losses: list[float] = []

    def add(self, loss: float) -> None:
        """Takes the loss of a step."""
        self.losses.append(loss)
        if len(self.losses) == 50:
            if np.mean(self.losses) < self.enough:
                self.now = min(self.longest, self.now + self.now // 2 + 1)
            self.losses.clear()


def copier_config(model: str, task: CopyTask, longest: int, steps: int | None = None, seed: int = 0) -> TrainConfig:
    """Returns the settings of a small model for gaps up to `longest`; steps: by default the model's own number.
    Raises ConfigError for an unknown model or fewer steps than one."""
    if model not in COPIERS:
        raise ConfigError(f"model {model!r}: expected one of {', '.join(COPIERS)}")
    kind, own, _ = COPIERS[model]
    settings = {**_COMMON, **own, "block_size": task.length(longest) - 1, "seed": seed}
    steps = settings["steps"] if steps is None else steps
    settings |= {"steps": steps, "schedule_steps": steps, "warmup": min(settings["warmup"], steps)}
    return dataclasses.replace(default_config(kind), **settings)


def training_sequences(task: CopyTask, longest: int, config: TrainConfig, step: int) -> np.ndarray:
    """Returns the sequences of a step, which depend on config.seed, the step and `longest` alone. They have one gap,
    log-uniform from 1 to `longest`: if short gaps are rare, recurrent models do not start to learn."""
    rng = np.random.Generator(philox((config.seed, step)))
    return task.sequences(round(longest ** rng.random()), config.batch_size, rng)


def new_copier(task: CopyTask, config: TrainConfig, start: str = "uniform", generator: Generator | None = None) -> LanguageModel:
    """Returns the untrained neural model of the settings, drawn from the generator, by default from one of config.seed.
    start: of a plain RNN, as `start_recurrent` has it."""
    with drawing_from(generator or Generator(config.seed)):
        model = build_model(config, task.vocab_size)
        if isinstance(model, RNNModel) and config.model == "rnn":
            start_recurrent(model, start)
    return model


def train_copier(
    task: CopyTask,
    config: TrainConfig,
    longest: int,
    report: Report = lambda record: None,
    *,
    start: str = "uniform",
    gradual: bool = True,
) -> LanguageModel | NgramLM:
    """Returns a model trained on config.steps batches, with the loss of the repeated payload alone, by a `Curriculum` of gaps;
    an n-gram model counts sequences of all gaps. It is in evaluation mode.

    start: as `new_copier` has it; gradual: as `Curriculum` has it. `report` gets a record every log_every steps and after the last
    one: the step, the mean loss since the record before, and the longest gap that training has come to. Raises AnomalyError if the
    gradient is no longer finite.
    """
    if config.model == "ngram":
        batches = (training_sequences(task, longest, config, step) for step in range(config.steps))
        return NgramLM(task.vocab_size, config.order).fit([row for rows in batches for row in rows])
    generator = Generator(config.seed)
    model, curriculum = new_copier(task, config, start, generator), Curriculum(task, longest, gradual)
    optimizer, schedule = build_optimizer(config, model), build_schedule(config)
    losses: list[float] = []
    for step in range(config.steps):
        rows = training_sequences(task, curriculum.now, config, step)
        optimizer.zero_grad()
        with drawing_from(generator):
            logits, _ = model.advance(Tensor(rows[:, :-1]))
            loss = ops.cross_entropy(logits, Tensor(task.targets(rows)), ignore_index=IGNORED)
            loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        optimizer.step(max_norm=config.clip)
        losses.append(loss.item())
        curriculum.add(losses[-1])
        if (step + 1) % config.log_every == 0 or step + 1 == config.steps:
            report({"step": step + 1, "loss": float(np.mean(losses)), "longest_gap": curriculum.now})
            losses.clear()
    model.eval()
    return model


def recall(model: LanguageModel | NgramLM, task: CopyTask, gap: int, count: int, seed: int = 0) -> float:
    """Returns the fraction of symbols of the repeated payload, each after the true ones before it, that are
    the model's most likely token: over `count` sequences of a gap, which were not drawn in training."""
    rows = task.sequences(gap, count, np.random.Generator(philox((seed, _TESTING + gap))))
    first = rows.shape[1] - task.payload
    if isinstance(model, NgramLM):
        guesses = np.array([[model.next_log_probabilities(row[:t]).argmax() for t in range(first, len(row))] for row in rows])
    else:
        with evaluation_mode(model):
            logits, _ = model.advance(Tensor(rows[:, :-1]))
        asked = np.arange(first - 1, rows.shape[1] - 1)
        guesses = checked_logits(model, logits.numpy()[:, first - 1 :], asked).argmax(-1)
    return float((guesses == rows[:, first:]).mean())
