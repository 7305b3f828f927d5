"""The cache of attention: it returns the concatenation, also if other caches use the same buffers; and what it costs."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.nn import KeyValueCache

RNG = np.random.default_rng(0)


def piece(steps: int) -> tuple[Tensor, Tensor]:
    return Tensor(RNG.standard_normal((2, 3, steps, 4))), Tensor(RNG.standard_normal((2, 3, steps, 5)))


def assert_holds(cache: KeyValueCache, pieces: list[tuple[Tensor, Tensor]]) -> None:
    for i, found in enumerate((cache.keys, cache.values)):
        np.testing.assert_array_equal(found.data, np.concatenate([p[i].data for p in pieces], axis=2))
    assert cache.length == sum(p[0].shape[2] for p in pieces)


def test_pieces_are_joined() -> None:
    cache, pieces = KeyValueCache(), []
    assert (cache.length, cache.keys, cache.values) == (0, None, None)
    for steps in (3, 1, 1, 5, 1, 0, 40, 1):
        pieces.append(piece(steps))
        assert cache.extend(*pieces[-1])[0] is cache.keys
        assert_holds(cache, pieces)


def test_a_copy_is_independent() -> None:
    """Both append after their common position, one of them to the same buffers and the other to new ones."""
    cache, start = KeyValueCache(), [piece(4), piece(1)]
    for each in start:
        cache.extend(*each)
    before = cache.keys
    kept = before.data.copy()
    copied = cache.copy()
    first, second, third = piece(2), piece(3), piece(1)
    copied.extend(*first)
    cache.extend(*second)
    copied.extend(*third)
    assert_holds(copied, [*start, first, third])
    assert_holds(cache, [*start, second])
    np.testing.assert_array_equal(before.data, kept)


def test_steps_mostly_write_into_the_buffers() -> None:
    cache = KeyValueCache()
    cache.extend(*piece(32))
    places = [cache.extend(*piece(1))[0].data.base.shape[2] for _ in range(224)]
    assert places == [66] * 34 + [134] * 68 + [270] * 122


def test_rows_are_selected() -> None:
    cache, pieces = KeyValueCache(), [piece(4), piece(1)]
    for each in pieces:
        cache.extend(*each)
    rows = np.array([1, 1, 0])
    selected = cache.select(rows)
    more = Tensor(RNG.standard_normal((3, 3, 1, 4))), Tensor(RNG.standard_normal((3, 3, 1, 5)))
    selected.extend(*more)
    assert_holds(selected, [*((Tensor(k.data[rows]), Tensor(v.data[rows])) for k, v in pieces), more])
    assert KeyValueCache().select(rows).keys is None


@pytest.mark.parametrize("recording", [True, False])
def test_gradients_reach_what_was_put_in(recording: bool) -> None:
    cache, pieces = KeyValueCache(), [piece(2), piece(3)]
    for k, v in pieces:
        k.requires_grad = v.requires_grad = True
        if recording:
            cache.extend(k, v)
        else:
            with tinylm.no_grad():
                cache.extend(k, v)
    assert_holds(cache, pieces)
    assert cache.keys.requires_grad is recording
    if recording:
        weights = RNG.standard_normal(cache.keys.shape)
        (cache.keys * Tensor(weights)).sum().backward()
        np.testing.assert_array_equal(np.concatenate([k.grad for k, _ in pieces], axis=2), weights)
