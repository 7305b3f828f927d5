"""No sequence of tokens stands more than so many times in a row."""

import re

import numpy as np
import pytest

from tinylm.decode import beam_search, greedy
from tinylm.decode.constraints import repeating_tokens
from tinylm.engine.tensor import Tensor


class Loop:
    """A model of translations that always prefers 2, then 3, and the end (1) only after that."""

    def step(self, ids, state):
        return Tensor(np.tile(np.log([1e-9, 0.1, 0.6, 0.3]), (len(ids.data), 1))), state

    def select(self, rows):
        return self


@pytest.mark.parametrize(
    ("context", "most", "expected"),
    [
        ([5, 5, 5], 3, [5]),
        ([5, 5], 3, []),
        ([5, 5], 2, [5]),
        ([1, 2, 1, 2, 1, 2, 1], 3, [2]),
        ([9, 1, 2, 1, 2, 1, 2, 1], 3, [2]),
        ([1, 2, 1, 2, 1, 2], 3, []),  # 1 is allowed: the fourth 1 2 is not yet whole
        ([1, 1, 2, 1, 1, 2, 1, 1], 2, [1, 2]),  # a third 1, and a third 1 1 2
        ([3, 4], 1, [4]),
        ([], 3, []),
        ([5] * 9, 0, []),
    ],
)
def test_the_tokens_after_which_a_sequence_stands_too_often(context, most, expected):
    assert sorted(repeating_tokens(context, most)) == expected


@pytest.mark.parametrize("seed", range(10))
def test_repeats_against_texts(seed):
    rng = np.random.default_rng(seed)
    context, most = rng.integers(0, 2, rng.integers(1, 14)).tolist(), int(rng.integers(1, 4))
    text = "".join(map(str, context))
    expected = [t for t in (0, 1) if re.search(rf"(.+)\1{{{most}}}$", f"{text}{t}")]
    assert sorted(set(repeating_tokens(context, most))) == expected


def test_what_repeats_in_beams_and_greedy_decoding():
    ask = {"bos": 0, "eos": 1, "max_tokens": 8, "forbidden": [0], "most_repeats": 3}
    one = greedy(Loop(), Loop(), **ask)
    assert one.tokens == [2, 2, 2, 3, 2, 2, 2, 3]  # a fourth 2 is blocked, so that the next most likely token follows
    for found in beam_search(Loop(), Loop(), **ask, beams=20, best=20):
        assert not re.search(r"(.+)\1\1\1", "".join(map(str, found.tokens)))
    assert greedy(Loop(), Loop(), **ask, required={2: 5}).tokens == [2] * 5 + [3] * 3  # what is required may be repeated
