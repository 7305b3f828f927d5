"""Drawing tokens: the distribution that settings leave, and the stream."""

import numpy as np
import pytest

import tinylm
from tinylm.decode import generate, next_distribution
from tinylm.errors import ConfigError
from tinylm.models import GPT, GPTConfig

LOGITS = np.log(np.array([0.1, 0.4, 0.2, 0.3]))


def test_temperature() -> None:
    np.testing.assert_allclose(next_distribution(LOGITS), [0.1, 0.4, 0.2, 0.3])
    squares = np.array([0.01, 0.16, 0.04, 0.09])
    np.testing.assert_allclose(next_distribution(LOGITS, 0.5), squares / squares.sum())
    np.testing.assert_allclose(next_distribution(LOGITS * 1e6, 1e-3), [0, 1, 0, 0])  # no overflow


def test_top_k_and_top_p() -> None:
    np.testing.assert_allclose(next_distribution(LOGITS, top_k=2), [0, 4 / 7, 0, 3 / 7])
    np.testing.assert_allclose(next_distribution(LOGITS, top_p=0.7), [0, 4 / 7, 0, 3 / 7])
    np.testing.assert_allclose(next_distribution(LOGITS, top_p=0.71), [0, 4 / 9, 2 / 9, 3 / 9])
    np.testing.assert_allclose(next_distribution(LOGITS, top_p=1e-9), [0, 1, 0, 0])
    np.testing.assert_allclose(next_distribution(np.zeros(3), top_k=1), [1, 0, 0])  # a tie: the smaller id


def test_bad_settings() -> None:
    for settings, message in [
        ({"temperature": 0.0}, "temperature 0.0"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"temperature": float("nan")}, "temperature nan"),
        ({"top_k": 5}, "top_k 5 is out of range: expected 1 to the vocabulary's 4"),
        ({"top_k": 0}, "top_k 0"),
        ({"top_p": 0.0}, "top_p 0.0"),
        ({"top_p": 1.5}, "top_p 1.5"),
    ]:
        with pytest.raises(ConfigError, match=message):
            next_distribution(LOGITS, **settings)


def test_the_stream_is_seeded_and_slides_past_the_block() -> None:
    model = GPT(GPTConfig(vocab_size=7, block_size=4, n_layer=1, n_head=1, n_embd=8))
    texts = []
    for seed in (1, 1, 2):
        tinylm.manual_seed(seed)
        texts.append(list(generate(model, [1, 2], 20)))
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 20
    with pytest.raises(ConfigError, match="prompt is empty"):
        next(generate(model, [], 1))
