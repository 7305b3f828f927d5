"""Copying: how accuracy is measured, what training sees, and that attention learns to look across the gap."""

import dataclasses
import math

import numpy as np
import pytest

from tinylm.data.copy_task import CopyTask
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, ConfigError
from tinylm.models import LanguageModel, NgramLM
from tinylm.studies.copying import COPIERS, Curriculum, copier_config, recall, train_copier, training_sequences

TASK = CopyTask()


class Oracle(LanguageModel):
    """Is certain of the symbol that is `back` tokens before the next one; if `back` is negative, of the symbol -back."""

    def __init__(self, back: int) -> None:
        super().__init__()
        self.vocab_size, self.block_size, self.back = TASK.vocab_size, None, back

    def advance(self, ids: Tensor, state: object = None) -> tuple[Tensor, object]:
        guesses = np.full_like(ids.data, -self.back)
        if self.back > 0:
            guesses = np.pad(ids.data, ((0, 0), (self.back, 0)), constant_values=TASK.marker)[:, 1 : ids.shape[1] + 1]
        return Tensor(np.eye(TASK.vocab_size)[guesses]), state


@pytest.mark.parametrize("gap", [5, 30])
def test_copying_is_always_right_and_guessing_is_right_by_chance(gap: int) -> None:
    """A copy that is off by one is noticed: it is right by chance where it meets another symbol of the payload, and never elsewhere."""
    distance = gap + TASK.payload + 1
    assert recall(Oracle(distance), TASK, gap, 50) == 1
    spread = 5 * math.sqrt(TASK.chance * (1 - TASK.chance) / (2000 * TASK.payload))
    for wrong in (-3, -7):
        assert abs(recall(Oracle(wrong), TASK, gap, 2000) - TASK.chance) < spread
    for off in (-1, 1):
        right = recall(Oracle(distance + off), TASK, gap, 2000)
        assert abs(right - TASK.chance * (TASK.payload - 1) / TASK.payload) < spread


def test_test_sequences_are_those_of_seed_and_gap() -> None:
    models = [Oracle(-3)] * 2
    assert recall(models[0], TASK, 5, 100, seed=1) == recall(models[1], TASK, 5, 100, seed=1)
    assert len({recall(Oracle(-3), TASK, 5, 400, seed=seed) for seed in range(5)}) > 1


def test_an_ngram_model_copies_what_it_can_see_and_nothing_else() -> None:
    """With a gap of 1, the six tokens before contain the first place of each symbol; from a gap of 5 on they do not."""
    easy = CopyTask(payload=2, symbols=3, noise=2)
    model = train_copier(easy, copier_config("ngram", easy, 8, 300), 8)
    assert isinstance(model, NgramLM)
    assert model.order == 7
    assert recall(model, easy, 1, 100) == 1
    for gap in (5, 8):
        assert abs(recall(model, easy, gap, 300) - easy.chance) < 5 * math.sqrt(easy.chance * (1 - easy.chance) / 600)


def test_training_sequences_have_all_gaps_up_to_the_longest() -> None:
    config = dataclasses.replace(copier_config("lstm", TASK, 20, seed=3), batch_size=2)
    rows = [training_sequences(TASK, 20, config, step) for step in range(400)]
    assert {r.shape[1] for r in rows} == {TASK.length(gap) for gap in range(1, 21)}
    for r in rows:
        np.testing.assert_array_equal(r[:, : TASK.payload], r[:, -TASK.payload :])
    np.testing.assert_array_equal(rows[5], training_sequences(TASK, 20, config, 5))
    assert not np.array_equal(rows[5], training_sequences(TASK, 20, dataclasses.replace(config, seed=4), 5))


def test_the_curriculum_goes_on_when_the_loss_of_50_steps_is_low() -> None:
    curriculum, gaps = Curriculum(TASK, 30), []
    for loss in (1.0, 0.2, 0.21, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0):  # a tenth of ln 8 is 0.208
        for step in range(50):
            assert curriculum.now == (gaps[-1] if gaps else 1), f"no change at step {step} of 50"
            curriculum.add(loss)
        gaps.append(curriculum.now)
    assert gaps == [1, 2, 2, 4, 7, 11, 17, 26, 30]
    assert Curriculum(TASK, 30, gradual=False).now == 30


def test_the_mean_of_the_steps_counts_not_the_last_loss() -> None:
    curriculum = Curriculum(TASK, 30)
    for step in range(50):
        curriculum.add(0.0 if step else 100.0)
    assert curriculum.now == 1


def test_the_plain_rnn_learns_to_copy_by_the_curriculum() -> None:
    """It comes to longer gaps step by step, and recalls what is far beyond a 7-gram; its report says how far it came."""
    easy = CopyTask(payload=1, symbols=2, noise=2)
    config = dataclasses.replace(copier_config("rnn-tanh-identity", easy, 10, 500), n_embd=16, n_hidden=16, lr=1e-2, log_every=200)
    records: list[dict] = []
    model = train_copier(easy, config, 10, records.append, start="identity")
    assert [r["step"] for r in records] == [200, 400, 500]
    reached = [r["longest_gap"] for r in records]
    assert reached == sorted(reached)
    assert reached[0] < reached[-1] == 10
    assert min(recall(model, easy, gap, 200) for gap in (1, 5, 10)) > 0.95


def test_attention_learns_to_copy() -> None:
    easy = CopyTask(payload=2, symbols=4, noise=2)
    config = dataclasses.replace(copier_config("gpt", easy, 4, 300), n_embd=32, lr=5e-3, log_every=100)
    records: list[dict] = []
    model = train_copier(easy, config, 4, records.append)
    assert [r["step"] for r in records] == [100, 200, 300]
    assert records[-1]["loss"] < 0.1 < records[0]["loss"]
    assert min(recall(model, easy, gap, 200) for gap in (1, 4)) > 0.95
    assert not model.training  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [k for k in COPIERS if k != "ngram"])
def test_a_run_is_a_function_of_its_seed(kind: str) -> None:
    def weights(seed: int) -> list[np.ndarray]:
        config = dataclasses.replace(copier_config(kind, TASK, 5, 2, seed), batch_size=2, n_embd=8)
        return [p.numpy() for p in train_copier(TASK, config, 5).parameters()]  # type: ignore[union-attr]

    first, again, other = weights(0), weights(0), weights(1)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_errors() -> None:
    with pytest.raises(ConfigError, match=r"model 'oracle': expected one of ngram, rnn, rnn-tanh-identity, .*, lstm, gru, gpt"):
        copier_config("oracle", TASK, 5)
    with pytest.raises(ConfigError, match="steps is 0: expected at least 1"):
        copier_config("rnn", TASK, 5, 0)
    config = dataclasses.replace(copier_config("rnn", TASK, 5, 5), lr=1e38)
    with pytest.raises(AnomalyError, match="the gradient norm is nan"), np.errstate(all="ignore"):
        train_copier(TASK, config, 5)
