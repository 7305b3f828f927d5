"""What a block switches on or off, it switches for its own thread: another thread computes as if the block were not there."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn, ops
from tinylm.engine import kernels
from tinylm.engine.anomalies import detect_anomaly
from tinylm.engine.kernels import launches, using
from tinylm.engine.profiler import Profile, profile
from tinylm.engine.random_keys import Generator, current, drawing_from
from tinylm.errors import AnomalyError
from tinylm.nn.init import shapes_only


def recorded() -> bool:
    return bool((Tensor(np.ones(2, np.float32), requires_grad=True) * 2).requires_grad)


def detected() -> bool:
    try:
        with np.errstate(all="ignore"):
            ops.log(Tensor(np.array([-1.0], np.float32)))
    except AnomalyError:
        return True
    return False


def from_kernel() -> bool:
    before = launches["softmax", "cpu"]
    ops.softmax(Tensor(np.ones((2, 3), np.float32)))
    return launches["softmax", "cpu"] > before


def has_weights() -> bool:
    return bool(nn.Linear(3, 2).weight.data.any())


def seed() -> int:
    return current.generator.state[0]


def measured() -> bool:
    return isinstance(kernels.profiling.active, Profile)


MODES: list[tuple[Callable[[], AbstractContextManager[Any]], Callable[[], Any]]] = [
    (tinylm.no_grad, recorded),
    (detect_anomaly, detected),
    (lambda: using("reference"), from_kernel),
    (shapes_only, has_weights),
    (lambda: drawing_from(Generator(9)), seed),
    (profile, measured),
]


@pytest.mark.parametrize(("block", "see"), MODES, ids=[see.__name__ for _, see in MODES])
def test_a_block_is_its_own_threads(
    block: Callable[[], AbstractContextManager[Any]], see: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two blocks of two threads overlap, and the one that was entered first is left first."""
    monkeypatch.setattr(kernels, "_kernels_allowed", "auto")
    outside = see()
    with block():
        inside = see()
    assert inside != outside
    seen: list[Any] = []
    entered, left = threading.Event(), threading.Event()

    def work() -> None:
        seen.append(see())
        with block():
            entered.set()
            left.wait(60)
            seen.append(see())
        seen.append(see())

    thread = threading.Thread(target=work)
    with block():
        thread.start()
        entered.wait(60)
        assert see() == inside
    assert see() == outside
    left.set()
    thread.join()
    assert seen == [outside, inside, outside]
    assert see() == outside
