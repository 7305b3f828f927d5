"""The three classifiers compared with the same models in PyTorch, padding, and what they can learn."""

import numpy as np
import pytest
import torch
from helpers import assert_parity, randomise, replay_dropout

from tinylm import ops
from tinylm.engine.random_keys import Generator, default_generator
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError, ShapeError
from tinylm.models.classifier import BagClassifier, Ensemble, LSTMClassifier, TextClassifier, TransformerClassifier
from tinylm.optim import AdamW
from tinylm.verify.torch.classifiers import TorchBagClassifier, TorchLSTMClassifier, TorchTransformerClassifier

VOCAB, WIDTH, HIDDEN, BUCKETS = 13, 8, 6, 17
KINDS = ["bag", "lstm", "transformer"]
kinds = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, dropout: float = 0.0, layers: int = 1) -> TextClassifier:
    if kind == "bag":
        return BagClassifier(VOCAB, WIDTH, BUCKETS, dropout, dropout)
    if kind == "lstm":
        return LSTMClassifier(VOCAB, WIDTH, HIDDEN, layers, dropout)
    return TransformerClassifier(VOCAB, WIDTH, 2, HIDDEN, layers, dropout)


def make_torch(kind: str, dropout: float = 0.0, layers: int = 1) -> torch.nn.Module:
    if kind == "bag":
        theirs = TorchBagClassifier(VOCAB, WIDTH, BUCKETS, dropout, dropout)
        theirs.ratios.copy_(torch.randn(VOCAB + BUCKETS))
        return theirs
    if kind == "lstm":
        return TorchLSTMClassifier(VOCAB, WIDTH, HIDDEN, layers, dropout)
    return TorchTransformerClassifier(VOCAB, WIDTH, 2, HIDDEN, layers, dropout)


LENGTHS = [np.array([7, 1, 4, 6]), np.array([5]), np.array([1, 1]), np.array([2, 3, 3])]


@kinds
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_equals_pytorch(kind, dtype, layers, lengths):
    """Logits and the gradient of every parameter."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    theirs = make_torch(kind, layers=layers)
    randomise(theirs, rng)
    ids = rng.integers(0, VOCAB, (len(lengths), int(lengths.max())))
    assert_parity(make(kind, layers=layers), theirs, [ids], settings={"lengths": lengths}, dtype=dtype)


@kinds
def test_dropout_equals_pytorch_with_the_same_masks(kind):
    rng, generator = np.random.default_rng(1), Generator()
    torch.manual_seed(1)
    theirs = replay_dropout(make_torch(kind, dropout=0.3), generator)
    randomise(theirs, rng)
    before = generator.state = default_generator.state
    ours = make(kind, dropout=0.3)
    generator.state = default_generator.state
    assert generator.state != before
    assert_parity(ours, theirs, [rng.integers(0, VOCAB, (4, 7))], settings={"lengths": LENGTHS[0]})
    assert generator.state == default_generator.state  # as many masks on both sides


@kinds
def test_padding_changes_nothing(kind):
    """A text has the same logit alone and in a batch with a longer one, whatever the padding contains."""
    rng = np.random.default_rng(2)
    model = make(kind, dropout=0.5).to(dtype="float64").eval()
    ids = rng.integers(0, VOCAB, (3, 9))
    together = model(Tensor(ids), np.array([3, 9, 1])).data
    alone = [model(Tensor(ids[n : n + 1, :length]), np.array([length])).data[0] for n, length in enumerate([3, 9, 1])]
    np.testing.assert_allclose(together, alone, rtol=1e-12, atol=1e-14)
    ids[0, 3:], ids[2, 1:] = 0, VOCAB - 1
    np.testing.assert_array_equal(model(Tensor(ids), np.array([3, 9, 1])).data, together)


@kinds
def test_a_tiny_set_is_memorised(kind):
    """Every text of one class is a text of the other class reversed, so that words alone do not tell them apart."""
    rng = np.random.default_rng(3)
    half = rng.permuted(np.tile(np.arange(6), (8, 1)), axis=1)
    ids, labels = np.concatenate([half, half[:, ::-1]]), np.repeat([1.0, 0.0], 8).astype(np.float32)
    model = {
        "bag": lambda: BagClassifier(VOCAB, 16, 64),
        "lstm": lambda: LSTMClassifier(VOCAB, 16, 16),
        "transformer": lambda: TransformerClassifier(VOCAB, 16, 2, 32),
    }[kind]()
    optimizer = AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(150):
        loss = ops.binary_cross_entropy_with_logits(model(Tensor(ids), np.full(16, 6)), Tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_log_count_ratios_by_hand():
    """Class 1: "1 2", class 0: "1" and "3": counts plus one, divided by their sum, words and pairs together."""
    model = BagClassifier(4, 2, 5)
    pair = 4 + (116049371 * 1 + 2) % 5
    model.weigh([np.array([1, 2]), np.array([1]), np.array([3])], np.array([1, 0, 0]))
    counts = np.ones((2, 9))
    counts[1, [1, 2, pair]] += 1
    counts[0, [1, 3]] += 1
    np.testing.assert_allclose(model.ratios.data, np.log(counts[1] / 12) - np.log(counts[0] / 11), rtol=1e-6, atol=1e-7)


def test_an_ensemble_is_the_mean_of_its_members():
    members = [make("lstm") for _ in range(3)]
    ids, lengths = np.random.default_rng(4).integers(0, VOCAB, (4, 7)), LENGTHS[0]
    expected = np.mean([m(Tensor(ids), lengths).data for m in members], axis=0)
    assert np.std([m(Tensor(ids), lengths).data for m in members], axis=0).min() > 0
    np.testing.assert_allclose(Ensemble(members)(Tensor(ids), lengths).data, expected, rtol=1e-6)


@kinds
def test_bad_input_is_refused(kind):
    model = make(kind)
    for lengths, message in [
        ([0, 2], "lengths from 0 to 2: expected 1 to 3"),
        ([1, 4], "1 to 4"),
        ([1], r"\(N,\)"),
        ([1.0, 2.0], "float64"),
    ]:
        with pytest.raises(ShapeError, match=message):
            model(Tensor(np.zeros((2, 3), np.int64)), np.array(lengths))
    for word in (VOCAB, -1):
        with pytest.raises(RangeError, match=f"id {word} is out of range: expected 0 to {VOCAB - 1}"):
            model(Tensor(np.array([[word, 1]])), np.array([2]))


def test_bad_sizes_are_refused():
    with pytest.raises(ConfigError, match="buckets is 0: expected at least 1"):
        BagClassifier(VOCAB, WIDTH, 0)
    with pytest.raises(ConfigError, match="hidden_size is 0"):
        LSTMClassifier(VOCAB, WIDTH, 0)
    with pytest.raises(ConfigError, match="heads is 0: expected at least 1"):
        TransformerClassifier(VOCAB, WIDTH, 0, HIDDEN)
