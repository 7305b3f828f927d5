"""Estimates of every task: of adapters, translators and classifiers, with few slow steps, and without useless advice."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from script_helpers import ends_well, script_here

from tinylm.data.labelled import LabelledTexts
from tinylm.data.pairs import Pairs
from tinylm.studies.estimates import estimate, estimate_classifier, estimate_translation
from tinylm.studies.measured_runs import Measuring, spread
from tinylm.train import Run, default_config
from tinylm.train.tasks.classifier_config import default_config as classifier_config
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.fine_tuning import fine_tuning_config
from tinylm.train.tasks.language_modeling import prepare
from tinylm.train.tasks.token_losses import rows_at_once, token_losses, validated_tokens
from tinylm.train.tasks.translation import TranslationRun
from tinylm.train.tasks.translation_config import default_config as translation_config

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40
SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 24, "n_hidden": 16, "block_size": 16, "batch_size": 4, "warmup": 0}
SENTENCES = [(f"the {a} {b} sleeps", f"el {b} {a} duerme") for a in ("old", "small", "grey") for b in ("cat", "dog", "bird", "wolf", "fox")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "base"
    Run(dataclasses.replace(default_config("gpt"), **SHAPE, steps=2), folder, TEXT).train()
    return folder


@pytest.mark.parametrize("rank", [0, 2])
def test_gradients_of_what_is_trained(rank: int, base: Path, tmp_path: Path) -> None:
    changes = {"lora_rank": rank, "steps": 4, "batch_size": 2, "warmup": 0}
    config = dataclasses.replace(fine_tuning_config(str(base), adapters=rank > 0), **changes)
    found = estimate(config, tmp_path / "run", TEXT, seconds=0.0)
    weights = 4 * found.parameters
    trained = 4 * found.trained
    assert found.config.n_embd == 24, "the model's own width"
    assert found.memory.held.parameters == weights
    assert found.memory.held.gradients == trained
    assert found.memory.held.optimizer == pytest.approx(2 * trained, rel=0.2), "with the padding between parameters"
    assert found.memory.frozen == (weights - trained if rank else 0)
    assert (found.trained == found.parameters) == (rank == 0)


def test_a_translators_estimate(tmp_path: Path) -> None:
    settings = {"bpe_size": 300, "n_layer": 1, "n_head": 2, "n_embd": 16, "n_hidden": 16, "batch_tokens": 60, "warmup": 0, "block_size": 32}
    config = dataclasses.replace(translation_config("transformer"), **settings, steps=40, eval_every=10, save_every=20, save_minutes=0)
    pairs = Pairs(SENTENCES * 6, SENTENCES, SENTENCES[:2], 0, "")
    found = estimate_translation(config, tmp_path / "estimate", pairs, seconds=0.0)
    run = TranslationRun(config, tmp_path / "run", pairs)
    assert (found.parameters, found.trained, found.steps) == (run.model.num_parameters(), run.model.num_parameters(), 40)
    assert found.tokens_per_step == pytest.approx(run.task.tokens_between(0, 40) / 40)
    assert min(found.seconds.steps, found.seconds.validations, found.seconds.checkpoints, found.memory.step.activations) > 0
    assert found.memory.validation > 0


def test_a_classifiers_estimate(tmp_path: Path) -> None:
    kinds = [("new", "so", "good"), ("old", "not", "bad")] * 40
    texts = [f"the {a} film was {b} {'very ' * (i % 7)}{c}" for i, (a, b, c) in enumerate(kinds)]
    data = LabelledTexts(texts, np.array([1, 0] * 40), ("bad", "good"), 0, "")
    config = dataclasses.replace(classifier_config("lstm"), members=2, epochs=3, width=8, hidden=8, batch_size=8)
    found = estimate_classifier(config, tmp_path / "estimate", data, seconds=0.0)
    run = ClassifierRun(config, data, tmp_path / "run")
    assert (found.parameters, found.steps) == (run.model.num_parameters(), 2 * 3 * 8)
    assert found.tokens_per_step == 0
    assert found.seconds.validations == 0 or run.task.validates
    assert found.seconds.end > 0
    assert found.memory.held.gradients == 4 * found.parameters, "those of all members stay"
    assert found.memory.held.optimizer < 4 * found.parameters * 1.2, "two moments of one of the two members"


class Slow(Measuring):
    """Steps of a given length, of a run that has no other parts."""

    def __init__(self, seconds: float, times: list[float]) -> None:
        self.seconds, self.times, self.alike = seconds, times, True


def test_few_steps_tell_the_time_of_slow_ones() -> None:
    assert not Slow(8.0, [5.0, 5.0]).enough()
    assert Slow(8.0, [5.0, 5.0, 6.0]).enough(), "16 seconds"
    assert not Slow(8.0, [0.1] * 50).enough()
    assert Slow(8.0, [1.0] * 8).enough()
    assert not Slow(0.0, [1.0] * 5).enough()
    assert Slow(0.0, [1.0] * 6).enough()
    assert Slow(8.0, [9.0, 5.0, 6.0]).step_seconds() == 5.5
    assert Slow(8.0, [9.0, 7.0, 6.0, 2.0, 1.0, 1.0, 8.0]).step_seconds() == 1.5, "the median without the first three"
    varied = Slow(8.0, [9.0, 7.0, 6.0, 2.0, 1.0, 1.0, 8.0])
    varied.alike = False
    assert varied.step_seconds() == 3.0, "the mean, where batches differ"
    assert Slow(8.0, []).step_seconds() == 0.0
    assert Slow(8.0, [3.0]).step_seconds() == 3.0


def test_a_part_is_spread_over_the_whole() -> None:
    assert spread(5, 99).tolist() == [0, 1, 2, 3, 4]
    assert spread(100, 3).tolist() == [0, 50, 99]
    assert spread(100, 1).tolist() == [99]


@pytest.mark.parametrize(("model", "unit"), [("gpt", (32 * 16, 1)), ("gru", (2048, 32))])
def test_the_shortest_validation_that_can_be_measured(model: str, unit: tuple[int, int], tmp_path: Path) -> None:
    config = dataclasses.replace(default_config(model), **SHAPE)
    task = Run(config, tmp_path / "run", TEXT).task
    assert rows_at_once(task.model, config.block_size) == unit
    assert validated_tokens(task.model, 1 + unit[0] * unit[1]) % unit[1] == 0
    assert len(token_losses(task.model, task.val_ids)) == len(prepare(config, TEXT, None).val_ids) - 1


def test_what_the_scripts_print(base: Path, tmp_path: Path) -> None:
    data = tmp_path / "fox.txt"
    data.write_text(TEXT * 5, encoding="utf-8")
    flags = ["--data", data, "--steps", 8, "--batch-size", 2, "--estimate"]
    shown = ends_well(script_here("train.py", "--init", base, "--lora-rank", 2, *flags, cwd=tmp_path))
    assert re.search(r"parameters +[\d,]+, [\d,]+ of them trained", shown)
    assert re.search(r"as configured +8 .* 24 ", shown)
    assert "tokens per parameter" not in shown
    assert "best" not in shown
    fresh = ends_well(script_here("train.py", "--n-embd", 64, "--n-layer", 2, *flags, cwd=tmp_path))
    assert "left out, since no text is worth so many passes: this model, 20 tokens per parameter" in fresh
    assert max(float(n) for n in re.findall(r" (\d+\.\d\d) +[\d.]+ (?:s|min|h)\b", fresh)) < 17
    small = ["--bpe-size", 280, "--n-layer", 1, "--n-embd", 16, "--n-hidden", 16, "--n-head", 2, "--steps", 8, "--warmup", 1]
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("".join(f"{a}\t{b}\n" for a, b in SENTENCES * 8), encoding="utf-8")
    translated = ends_well(script_here("translate.py", "train", "--data", pairs, *small, "--estimate", "--out", base, cwd=tmp_path))
    labelled = tmp_path / "labelled.tsv"
    labelled.write_text("1\tgood film\n0\tbad film\n1\ta fine one\n0\ta poor one\n" * 20, encoding="utf-8")
    classified = ends_well(
        script_here("classify.py", "train", "--data", labelled, "--epochs", 2, "--estimate", "--out", base, cwd=tmp_path)
    )
    for out in (shown, fresh, translated, classified):
        for words in ("one step", "8 steps" if out != classified else "steps", "in all", "predicted peak", "measured peak"):
            assert words in out
    assert {path.name for path in tmp_path.iterdir()} == {"fox.txt", "pairs.tsv", "labelled.tsv"}
