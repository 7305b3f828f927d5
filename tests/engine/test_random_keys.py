"""The generator of random keys: which seeds it takes, and that a key's numbers are NumPy's Philox."""

import numpy as np
import pytest

from tinylm.engine.random_keys import Generator, philox, random_uint32
from tinylm.errors import ConfigError


@pytest.mark.parametrize("seed", [0, 129, 2**32, 2**63, 2**64 - 1])
def test_any_seed_of_64_bits(seed: int) -> None:
    generator = Generator(seed)
    assert [generator.next_key() for _ in range(3)] == [(seed, 0), (seed, 1), (seed, 2)]
    assert generator.state == (seed, 3)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_other_seeds_are_refused(seed: int) -> None:
    with pytest.raises(ConfigError, match=str(seed)):
        Generator(seed)


def test_a_key_selects_one_stream_and_its_words_are_halved() -> None:
    """The first word of the key is the seed, the counter begins at 0: these numbers are the same on every machine."""
    found = philox((7, 3)).random_raw(5)
    assert found[:2].tolist() == [8893702929424106994, 13357943582879616415]
    np.testing.assert_array_equal(found, np.random.Philox(key=7 + 3 * 2**64, counter=0).random_raw(5))
    halves = [half for word in found.tolist() for half in (word % 2**32, word >> 32)]
    for size in range(10):
        assert random_uint32((7, 3), size).tolist() == halves[:size]
