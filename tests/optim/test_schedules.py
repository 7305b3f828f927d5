"""Learning rates by step."""

import math

import pytest

from tinylm.errors import ConfigError
from tinylm.optim import Constant, Noam, WarmupCosine, WarmupLinear


def test_warmup_cosine() -> None:
    lr = WarmupCosine(1e-3, 1e-4, 100, 2000)
    assert lr(0) == pytest.approx(1e-3 / 101)
    assert lr(99) == pytest.approx(1e-3 * 100 / 101)
    assert lr(100) == 1e-3
    assert lr(1050) == pytest.approx((1e-3 + 1e-4) / 2)
    assert lr(2000) == lr(10_000) == 1e-4
    assert WarmupCosine(1.0, 0.0, 0, 4)(0) == 1.0
    with pytest.raises(ConfigError, match="warmup 5"):
        WarmupCosine(1.0, 0.0, 5, 4)


def test_the_others() -> None:
    assert [WarmupLinear(1.0, 0.0, 0, 4)(s) for s in range(6)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    assert [Constant(1.0, 1)(s) for s in range(3)] == [0.5, 1.0, 1.0]
    noam = Noam(512, 4000)
    assert noam(3999) == pytest.approx(512**-0.5 * 4000**-0.5)
    assert max(range(8000), key=noam) == 3999


def test_a_schedule_of_a_negative_length() -> None:
    for schedule in (WarmupCosine, WarmupLinear):
        with pytest.raises(ConfigError, match="steps is -1: expected at least 0"):
            schedule(1.0, 0.0, 0, -1)


def test_warmup_linear_step_by_step() -> None:
    lr = WarmupLinear(1.0, 0.2, 3, 7)
    assert [lr(s) for s in range(3)] == [0.25, 0.5, 0.75]
    assert [lr(s) for s in range(3, 10)] == pytest.approx([1.0, 0.8, 0.6, 0.4, 0.2, 0.2, 0.2], rel=1e-15)
    assert [WarmupLinear(1.0, 0.5, 2, 2)(s) for s in range(4)] == pytest.approx([1 / 3, 2 / 3, 1.0, 0.5], rel=1e-15)


def test_warmup_cosine_step_by_step() -> None:
    lr = WarmupCosine(1.0, 0.2, 3, 7)
    half = math.sqrt(0.5)
    falling = [1.0, 0.6 + 0.4 * half, 0.6, 0.6 - 0.4 * half, 0.2, 0.2, 0.2]
    assert [lr(s) for s in range(10)] == pytest.approx([0.25, 0.5, 0.75, *falling], rel=1e-15)
    assert [WarmupCosine(1.0, 0.5, 2, 2)(s) for s in range(4)] == pytest.approx([1 / 3, 2 / 3, 1.0, 0.5], rel=1e-15)
    assert [WarmupCosine(1.0, 0.5, 0, 0)(s) for s in range(2)] == [1.0, 0.5]
    with pytest.raises(ConfigError, match="warmup -1 is out of range: expected 0 to the schedule's 4 steps"):
        WarmupCosine(1.0, 0.0, -1, 4)


def test_noam_step_by_step() -> None:
    """Rises in a straight line for `warmup` steps, then falls as 1/sqrt(step)."""
    lr = Noam(16, 4, 3.0)
    assert [lr(s) for s in range(8)] == pytest.approx([3 / 4 * min(t / 8, t**-0.5) for t in range(1, 9)], rel=1e-15)
    assert Noam(16, 4)(3) == pytest.approx(1 / 8, rel=1e-15)
    assert [Noam(1, 0)(s) for s in range(4)] == pytest.approx([1.0, 2**-0.5, 3**-0.5, 0.5], rel=1e-15)


def test_constant_after_a_warmup_if_one_is_asked_for() -> None:
    assert [Constant(2.0)(s) for s in range(3)] == [2.0, 2.0, 2.0]
    assert [Constant(2.0, 3)(s) for s in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
