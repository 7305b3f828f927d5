"""Tiny runs for the tests of interruptions: one for each kind of model."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data.labelled import LabelledTexts
from tinylm.data.pairs import Pairs
from tinylm.files.signed_arrays import read_arrays
from tinylm.train import Run, TrainConfig, default_config
from tinylm.train.run_folder import saved_checkpoints
from tinylm.train.tasks.classifier_config import default_config as classifier_defaults
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.translation import TranslationRun
from tinylm.train.tasks.translation_config import default_config as translation_defaults

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40
ANIMALS, DOES = {"cat": "gato", "dog": "perro", "bird": "pájaro"}, {"sleeps": "duerme", "eats": "come", "runs": "corre"}
NINE = [(f"The {a} {d}.", f"El {b} {e}.") for a, b in ANIMALS.items() for d, e in DOES.items()]
PAIRS = Pairs(NINE, NINE[:4], NINE[4:6], 0, "")
VERDICTS = [f"the {noun} was {word}" for noun in ANIMALS for word in ("bad", "good") * 3]
OPINIONS = LabelledTexts(VERDICTS, np.arange(18) % 2, ("no", "yes"), 0, "")
TINY = {
    "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 24, "block_size": 8, "batch_size": 4, "dropout": 0.2, "dropout_ramp": 6,
    "steps": 16, "schedule_steps": 16, "warmup": 2, "lr": 1e-2, "log_every": 3, "eval_every": 5, "save_every": 4, "ema": 0.9,
}  # fmt: skip
MODELS = ["gpt", "llama", "transformer", "rnn", "lstm", "gru", "ensemble", "translator", "recurrent translator"]


def tiny(model: str = "gpt", **changes: Any) -> TrainConfig:
    kind, members = ("gru", 2) if model == "ensemble" else (model, 1)
    return dataclasses.replace(default_config(kind), **{**TINY, "members": members, **changes})


def tiny_run(model: str, folder: Path, resume: bool = False, **changes: Any) -> Run:
    """Returns a run of one of MODELS, of 16 steps with dropout and averaged weights."""
    if "translator" not in model:
        return Run(tiny(model, **changes), folder, TEXT, resume=resume)
    sizes = {name: TINY[name] for name in TINY if name not in ("batch_size", "dropout_ramp", "block_size")}
    defaults = translation_defaults("transformer" if model == "translator" else "lstm")
    config = dataclasses.replace(defaults, **{**sizes, "block_size": 24, "bpe_size": 280, "batch_tokens": 64, **changes})
    return TranslationRun(config, folder, PAIRS, resume=resume)


def tiny_classifier(folder: Path, resume: bool = False, **changes: Any) -> ClassifierRun:
    """Returns a run of two members with dropout, of three epochs each."""
    sizes = {"members": 2, "width": 8, "hidden": 8, "epochs": 3, "batch_size": 8, "dropout": 0.3}
    return ClassifierRun(dataclasses.replace(classifier_defaults("lstm"), **{**sizes, **changes}), OPINIONS, folder, resume)


def records(folder: Path) -> list[dict[str, Any]]:
    """Returns the lines of metrics.jsonl without what depends on the clock and the machine."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k not in ("tokens_per_second", "train_seconds", "memory_mb")} for line in lines]


def end_of(folder: Path) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Returns the arrays of the last checkpoint, of the model and of the best weights as bytes, and the checkpoint's
    record without the seconds."""
    arrays, record = read_arrays(saved_checkpoints(folder)[0])
    model, _ = read_arrays(folder / "model.safetensors")
    best, _ = read_arrays(folder / "checkpoints" / "best.safetensors")
    every = arrays | {f"final {k}": a for k, a in model.items()} | {f"best {k}": a for k, a in best.items()}
    del record["progress"]["train_seconds"]
    return {name: np.ascontiguousarray(a).tobytes() for name, a in every.items()}, record


def assert_same_end(folder: Path, whole: Path) -> None:
    """Asserts that weights, averages, optimiser, carried state, random state, losses and every logged number are equal, bit for bit."""
    (found, record), (expected, expected_record) = end_of(folder), end_of(whole)
    assert record == expected_record
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert records(folder) == records(whole)


def stop_at(run: Run, step: int) -> Callable[..., Any]:
    """Makes the run stop after `step` steps, and returns the method that this replaces."""
    gradients = run.gradients

    def stopping(k: int) -> Any:
        run.stop_requested = k + 1 >= step
        return gradients(k)

    run.gradients = stopping  # type: ignore[method-assign]
    return gradients
