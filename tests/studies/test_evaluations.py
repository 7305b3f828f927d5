"""Losses of mixtures, and of models that keep learning while they read."""

import math

import numpy as np
import pytest

import tinylm
from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.errors import DataError
from tinylm.models import GPT, GPTConfig, RNNModel
from tinylm.studies.dynamic_evaluation import dynamic_losses
from tinylm.studies.mixing import LINEAR, linear_mixture, mix
from tinylm.train.tasks.token_losses import token_losses


def test_a_mixture_by_hand() -> None:
    """The Bayesian mixture of two models and of their linear mixture, whose weights are counts."""
    p = np.array([[0.5, 0.2, 0.9], [0.25, 0.6, 0.1]])
    losses, weights = mix(list(-np.log(p)))
    linear, inside = linear_mixture(list(-np.log(p)))
    counts, expected, shares = np.ones(2), [], np.array([(1 - LINEAR) / 2, (1 - LINEAR) / 2, LINEAR])
    for t in range(3):
        total = counts / counts.sum() @ p[:, t]
        assert linear[t] == pytest.approx(-math.log(total), rel=1e-14)
        counts = counts + counts / counts.sum() * p[:, t] / total
        each = np.array([*p[:, t], total])
        expected.append(-math.log(shares @ each))
        shares = shares * each / (shares @ each)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    np.testing.assert_allclose(inside, counts / counts.sum(), rtol=1e-14)
    np.testing.assert_allclose(weights, shares[:2] + shares[2] * inside, rtol=1e-12)
    assert weights.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("members", [1, 2, 5])
@pytest.mark.parametrize("text", ["alike", "one is best", "the worst comes back", "impossible tokens"])
def test_a_mixture_is_at_most_the_logarithm_of_its_models_worse_than_the_best(members: int, text: str) -> None:
    """In nats over the whole text, and whatever the text is; of the linear mixture alone that is not true."""
    rng = np.random.default_rng(members)
    losses = rng.gamma(1.0, 2.0, (members, 3000))
    if text == "one is best":
        losses[0] = 0.1
    elif text == "the worst comes back":
        losses[:, :1500] += 2.0 * np.arange(members)[:, None]
        losses[:, 1500:] += 2.0 * np.arange(members)[::-1, None]
    elif text == "impossible tokens":
        losses[:-1, 100] = np.inf
    mixed, weights = mix(list(losses))
    best = losses.sum(axis=1).min()
    bound = math.log(members) - math.log(1 - LINEAR)
    assert mixed.sum() <= best + bound + 1e-9
    assert weights.sum() == pytest.approx(1, abs=1e-9)
    linear = linear_mixture(list(losses))[0].sum()
    assert mixed.sum() <= linear - math.log(LINEAR) + 1e-9
    if text == "one is best" and members > 1:
        assert linear > best + bound, "the bound is no matter of course"


def test_a_mixture_is_a_distribution_and_uses_the_past_alone() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.dirichlet(np.ones(5), (2, 40))  # two models' distributions over 5 tokens at 40 places
    chosen = rng.integers(0, 5, 40)
    places = np.arange(40)
    total = 0.0
    for token in range(5):  # the last token, whatever it is
        tokens = np.append(chosen[:-1], token)
        losses, _ = mix([-np.log(a[places, tokens]), -np.log(b[places, tokens])])
        total += math.exp(-losses[-1])
    assert total == pytest.approx(1, abs=1e-12)


def test_a_mixture_finds_the_best_weights_and_survives_impossible_tokens() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(4000) < 0.7  # the first model knows 70 % of the tokens, the second one the others
    losses, weights = mix([np.where(right, 0.1, 800.0), np.where(right, 800.0, 0.1)])
    assert np.isfinite(losses).all()
    np.testing.assert_allclose(weights, [0.7, 0.3], atol=0.02)
    best = 0.1 - 0.7 * math.log(0.7) - 0.3 * math.log(0.3)
    assert losses.mean() == pytest.approx(best, abs=0.02)
    alone, weight = mix([losses])
    np.testing.assert_allclose(alone, losses, rtol=1e-14)
    np.testing.assert_allclose(weight, [1], rtol=1e-12)
    with pytest.raises(DataError, match="one length for all models"):
        mix([losses, losses[:-1]])


def models() -> list[tinylm.models.LanguageModel]:
    return [
        RNNModel("gru", 7, 12, 12, 2, 0.5).to(dtype="float64"),
        GPT(GPTConfig(vocab_size=7, block_size=16, n_layer=1, n_head=2, n_embd=8, dropout=0.5)).to(dtype="float64"),
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_without_learning_it_is_the_plain_loss(which: int) -> None:
    model, ids = models()[which], np.random.default_rng(0).integers(0, 7, 150)
    np.testing.assert_allclose(dynamic_losses(model, ids, lr=0.0), token_losses(model, ids), rtol=1e-10)


@pytest.mark.parametrize("which", [0, 1])
def test_each_token_is_scored_before_it_is_learned_from(which: int) -> None:
    """The losses up to the end of a segment do not depend on what follows, and a pattern is learned on the way."""
    ids = np.tile([0, 3, 1, 6, 2], 80)
    other = ids.copy()
    other[200:] = 5
    tinylm.manual_seed(1)
    first, second = models()[which], models()[which]
    second.load_state_dict(first.state_dict())
    a, b = (dynamic_losses(m, x, lr=0.5) for m, x in ((first, ids), (second, other)))
    np.testing.assert_array_equal(a[:199], b[:199])
    assert (a[199:] != b[199:]).any()
    assert a[-50:].mean() < 0.9 * a[:50].mean()


def test_one_step_of_dynamic_evaluation() -> None:
    """The second segment's loss after one step of gradient descent on the loss of the first."""
    model, ids = models()[0], np.random.default_rng(2).integers(0, 7, 9)
    twin = models()[0]
    twin.load_state_dict(model.state_dict())
    found = dynamic_losses(model, ids, lr=0.1, segment=4, clip=1e9)
    twin.eval()
    logits, state = twin.advance(Tensor(ids[None, :4]))
    ops.cross_entropy(logits, ids[None, 1:5]).backward()
    for p in twin.parameters():
        p.data[...] -= 0.1 * p.grad
        p.bump_version()
    logits, _ = twin.advance(Tensor(ids[None, 4:8]), [s.detach() for s in state])
    expected = ops.cross_entropy(logits, ids[None, 5:9], reduction="none")
    np.testing.assert_allclose(found[4:], expected.data[0], rtol=1e-10)
    with pytest.raises(DataError, match="at least 2"):
        dynamic_losses(model, ids[:1], lr=0.1)
