"""The n-gram model compared with known figures: a worked example, discounts, Tiny Shakespeare."""

import numpy as np
import pytest

from tinylm.data import CharTokenizer, load_text
from tinylm.models.ngram import NgramLM, estimate_discounts


def test_worked_example():
    """In a b a b a, ab and ba occur twice, a follows b and the start, b follows a; all discounts are the default ones."""
    model = NgramLM(2, order=2).fit(np.array([0, 1, 0, 1, 0]))
    a = (2 - 1) / 3 + (1 + 0.5) / 3 / 2  # p_1(a)
    np.testing.assert_allclose(np.exp(model.next_log_probabilities([])), [a, 1 - a], rtol=1e-15)
    np.testing.assert_allclose(np.exp(model.next_log_probabilities([0])), [a / 2, 1 / 2 + (1 - a) / 2], rtol=1e-15)
    np.testing.assert_allclose(np.exp(model.next_log_probabilities([0, 1])), [1 / 2 + a / 2, (1 - a) / 2], rtol=1e-15)


def test_discounts():
    np.testing.assert_allclose(estimate_discounts(np.repeat([1, 2, 3, 4, 9], [4, 3, 2, 1, 5])), [0.4, 1.2, 2.2], rtol=1e-14)
    for degenerate in ([1, 1, 2, 3], [2, 3, 4], [7], [1, 2, 3, *[4] * 50]):  # an n_k is zero; D3 would be negative
        np.testing.assert_array_equal(estimate_discounts(np.array(degenerate)), [0.5, 1.0, 1.5])


# ---------------------------------------------------------------- Tiny Shakespeare


@pytest.fixture(scope="module")
def shakespeare():
    text = load_text("tinyshakespeare")
    ids = CharTokenizer(text).encode(text)
    cut = int(0.9 * ids.size)
    return ids[:cut], ids[cut:]


@pytest.mark.parametrize(("order", "nats"), [(6, 1.523), (7, 1.517), (8, 1.519)])
def test_tiny_shakespeare(shakespeare, order, nats):
    """The last tenth after the first nine, compared with figures measured with another implementation."""
    training, validation = shakespeare
    model = NgramLM(65, order).fit(training)
    assert abs(-model.log_probabilities(validation).mean() - nats) < 0.001
