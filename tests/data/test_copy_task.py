"""The copy task: what its sequences contain, and which of their tokens are scored."""

import numpy as np
import pytest

from tinylm.data.copy_task import IGNORED, CopyTask
from tinylm.errors import ConfigError
from tinylm.ops import cross_entropy


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("task", [CopyTask(), CopyTask(1, 2, 1), CopyTask(5, 3, 10)])
@pytest.mark.parametrize("gap", [0, 1, 5, 100])
def test_payload_noise_marker_payload(task: CopyTask, gap: int) -> None:
    rows = task.sequences(gap, 500, rng())
    assert rows.shape == (500, task.length(gap))
    assert rows.dtype == np.int64
    p = task.payload
    payload, noise, marker, copy = np.split(rows, [p, p + gap, p + gap + 1], axis=1)
    np.testing.assert_array_equal(payload, copy)
    np.testing.assert_array_equal(marker, np.full((500, 1), task.marker))
    assert set(payload.ravel().tolist()) == set(range(task.symbols))
    assert set(noise.ravel().tolist()) == (set(range(task.symbols, task.symbols + task.noise)) if gap else set())
    assert task.vocab_size == task.marker + 1 == task.symbols + task.noise + 1


def test_symbols_are_uniform_and_tell_nothing_of_one_another() -> None:
    """Every pair of symbols is equally frequent, within 5 standard deviations."""
    task, count = CopyTask(payload=2, symbols=3), 9000
    rows = task.sequences(4, count, rng())
    pairs = np.bincount(3 * rows[:, 0] + rows[:, 1], minlength=9)
    assert np.abs(pairs - count / 9).max() < 5 * np.sqrt(count / 9)
    assert task.chance == 1 / 3


def test_the_same_generator_gives_the_same_sequences() -> None:
    task = CopyTask()
    np.testing.assert_array_equal(task.sequences(7, 20, rng(1)), task.sequences(7, 20, rng(1)))
    assert not np.array_equal(task.sequences(7, 20, rng(1)), task.sequences(7, 20, rng(2)))


def test_targets_are_the_repeated_payload_alone() -> None:
    task = CopyTask(payload=3, symbols=5)
    rows = task.sequences(4, 10, rng())
    before = rows.copy()
    targets = task.targets(rows)
    assert targets.shape == (10, task.length(4) - 1)
    assert (targets[:, :-3] == IGNORED).all()
    np.testing.assert_array_equal(targets[:, -3:], rows[:, :3])
    np.testing.assert_array_equal(rows, before)


def test_bad_tasks_are_refused() -> None:
    for name in ("payload", "symbols", "noise"):
        with pytest.raises(ConfigError, match=f"{name} is 0: expected at least 1"):
            CopyTask(**{name: 0})
    with pytest.raises(ConfigError, match="gap is -1"):
        CopyTask().sequences(-1, 2, rng())


def test_the_ignored_target_is_the_one_that_cross_entropy_ignores() -> None:
    logits = np.random.default_rng(0).standard_normal((3, 4))
    every = cross_entropy(logits[[0, 2]], np.array([1, 3]))
    assert cross_entropy(logits, np.array([1, IGNORED, 3])).item() == pytest.approx(every.item(), rel=1e-15)
