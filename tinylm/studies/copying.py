"""Trains language models on the copy task, and tests how far back they remember."""

import dataclasses
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.data.copy_task import IGNORED, CopyTask
from tinylm.decode.stepping import checked_logits, evaluation_mode
from tinylm.engine.random_keys import Generator, drawing_from, philox
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models import LanguageModel, NgramLM
from tinylm.train.records import Report
from tinylm.train.tasks.language_model_config import TrainConfig, build_model, build_optimizer, build_schedule, default_config

# The RNN's learning rate is the best of 1e-4, 3e-4, 5e-4, 1e-3 and 3e-3 by training loss; the LSTM and the GPT learn the
# whole task with the first one tried. The RNN learns slowly and its steps are the cheapest, so it has more of them.
_COMMON = {"dropout": 0.0, "batch_size": 32, "warmup": 100, "min_lr": 1e-5, "weight_decay": 0.0, "log_every": 500}
COPIERS: dict[str, dict[str, Any]] = {
    "ngram": {"steps": 3000},
    "rnn": {"n_layer": 1, "n_embd": 128, "n_hidden": 128, "lr": 1e-3, "steps": 10_000},
    "lstm": {"n_layer": 1, "n_embd": 128, "n_hidden": 128, "lr": 3e-3, "steps": 3000},
    "gpt": {"n_layer": 2, "n_embd": 64, "lr": 1e-3, "steps": 3000},
}
_TESTING = 1 << 32  # added to the gap: the key of a random stream that no training step uses


def copier_config(model: str, task: CopyTask, longest: int, steps: int | None = None, seed: int = 0) -> TrainConfig:
    """Returns the settings of a small model for gaps up to `longest`; steps: by default the model's own number.
    Raises ConfigError for an unknown model or fewer steps than one."""
    if model not in COPIERS:
        raise ConfigError(f"model {model!r}: expected one of {', '.join(COPIERS)}")
    settings = {**_COMMON, **COPIERS[model], "block_size": task.length(longest) - 1, "seed": seed}
    steps = settings["steps"] if steps is None else steps
    settings |= {"steps": steps, "schedule_steps": steps, "warmup": min(settings["warmup"], steps)}
    return dataclasses.replace(default_config(model), **settings)


def training_sequences(task: CopyTask, longest: int, config: TrainConfig, step: int) -> np.ndarray:
    """Returns the sequences of a step, which depend on config.seed and the step alone. They have one gap,
    log-uniform from 1 to `longest`: if short gaps are rare, recurrent models do not start to learn."""
    rng = np.random.Generator(philox((config.seed, step)))
    return task.sequences(round(longest ** rng.random()), config.batch_size, rng)


def train_copier(task: CopyTask, config: TrainConfig, longest: int, report: Report = lambda record: None) -> LanguageModel | NgramLM:
    """Returns a model trained on config.steps batches, with the loss of the repeated payload alone;
    an n-gram model counts the same sequences. It is in evaluation mode.

    `report` gets a record with the mean loss every log_every steps. Raises AnomalyError if the
    gradient is no longer finite.
    """
    if config.model == "ngram":
        batches = (training_sequences(task, longest, config, step) for step in range(config.steps))
        return NgramLM(task.vocab_size, config.order).fit([row for rows in batches for row in rows])
    generator = Generator(config.seed)
    with drawing_from(generator):
        model = build_model(config, task.vocab_size)
    optimizer, schedule = build_optimizer(config, model), build_schedule(config)
    losses = []
    for step in range(config.steps):
        rows = training_sequences(task, longest, config, step)
        optimizer.zero_grad()
        with drawing_from(generator):
            logits, _ = model.advance(Tensor(rows[:, :-1]))
            loss = ops.cross_entropy(logits, Tensor(task.targets(rows)), ignore_index=IGNORED)
            loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        optimizer.step(max_norm=config.clip)
        losses.append(loss.item())
        if (step + 1) % config.log_every == 0:
            report({"step": step + 1, "loss": float(np.mean(losses[-config.log_every :]))})
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
