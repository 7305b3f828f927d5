"""Learning rates by step."""

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
