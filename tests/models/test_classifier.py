"""The three classifiers compared with the same models in PyTorch, padding, and what they can learn."""

import numpy as np
import pytest
import torch
from helpers import assert_parity, randomise, replay_dropout

from tinylm import ops
from tinylm.engine.random_keys import Generator, default_generator
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError, ShapeError
from tinylm.models.classifier import BagClassifier, Ensemble, LinearClassifier, LSTMClassifier, TextClassifier, TransformerClassifier
from tinylm.optim import AdamW
from tinylm.verify.torch.classifiers import TorchBagClassifier, TorchLinearClassifier, TorchLSTMClassifier, TorchTransformerClassifier

VOCAB, WIDTH, HIDDEN, BUCKETS = 13, 8, 6, 17
KINDS = ["linear", "bag", "lstm", "transformer"]
kinds = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, dropout: float = 0.0, layers: int = 1, classes: int = 2) -> TextClassifier:
    if kind == "linear":
        return LinearClassifier(VOCAB, BUCKETS, dropout, classes)
    if kind == "bag":
        return BagClassifier(VOCAB, WIDTH, BUCKETS, dropout, dropout, classes)
    if kind == "lstm":
        return LSTMClassifier(VOCAB, WIDTH, HIDDEN, layers, dropout, classes)
    return TransformerClassifier(VOCAB, WIDTH, 2, HIDDEN, layers, dropout, classes)


def make_torch(kind: str, dropout: float = 0.0, layers: int = 1, classes: int = 2) -> torch.nn.Module:
    if kind == "linear":
        theirs = TorchLinearClassifier(VOCAB, BUCKETS, dropout, classes)
        theirs.scale.copy_(torch.randn(VOCAB + BUCKETS))
        return theirs
    if kind == "bag":
        theirs = TorchBagClassifier(VOCAB, WIDTH, BUCKETS, dropout, dropout, classes)
        theirs.ratios.copy_(torch.randn(VOCAB + BUCKETS))
        return theirs
    if kind == "lstm":
        return TorchLSTMClassifier(VOCAB, WIDTH, HIDDEN, layers, dropout, classes)
    return TorchTransformerClassifier(VOCAB, WIDTH, 2, HIDDEN, layers, dropout, classes)


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
def test_three_classes_equal_pytorch(kind):
    """Logits (N, 3) and the gradient of every parameter."""
    rng = np.random.default_rng(7)
    torch.manual_seed(7)
    theirs = make_torch(kind, classes=3)
    randomise(theirs, rng)
    ours, lengths = make(kind, classes=3), LENGTHS[0]
    assert (ours.classes, make(kind).classes) == (3, 2)
    assert ours(Tensor(rng.integers(0, VOCAB, (4, 7))), lengths).shape == (4, 3)
    assert_parity(ours, theirs, [rng.integers(0, VOCAB, (4, 7))], settings={"lengths": lengths})


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
        "linear": lambda: LinearClassifier(VOCAB, 512),
        "bag": lambda: BagClassifier(VOCAB, 16, 64),
        "lstm": lambda: LSTMClassifier(VOCAB, 16, 16),
        "transformer": lambda: TransformerClassifier(VOCAB, 16, 2, 32),
    }[kind]()
    optimizer = AdamW(model.parameters(), lr=0.1 if kind == "linear" else 1e-2, weight_decay=0.0)
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
    with pytest.raises(ConfigError, match="classes is 1: expected at least 2"):
        LinearClassifier(VOCAB, BUCKETS, classes=1)


# ---------------------------------------------------------------- the linear model


def test_a_linear_model_begins_as_naive_bayes():
    """Class 0: "1 2", class 1: "1 3 1". Words and pairs that a text has, each count plus one; a pair counts a quarter."""
    model = LinearClassifier(4, 1000)
    model.weigh([np.array([1, 2]), np.array([1, 3, 1])], np.array([0, 1]), np.array([0.25, 0.75]))
    pairs = [4 + (116049371 * a + b) % 1000 for a, b in ((1, 2), (1, 3), (3, 1))]
    words0, words1, pairs0, pairs1 = np.array([2, 2, 1]) / 5, np.array([2, 1, 2]) / 5, np.array([2, 1, 1]) / 4, np.array([1, 2, 2]) / 5
    expected = np.concatenate([np.log(words1 / words0), np.log(pairs1 / pairs0) / 4])
    says = model.scale.data * model.encoder.weight.data[:, 0]
    np.testing.assert_allclose(says[[1, 2, 3, *pairs]], expected, rtol=1e-6)
    assert np.count_nonzero(says) == 5  # the word 1 is in both
    np.testing.assert_allclose(model.scale.data[2], np.std(np.log([words0[1], words1[1]])), rtol=1e-6)
    np.testing.assert_allclose(model.bias.data, [np.log(3)], rtol=1e-6)
    logit = model(Tensor(np.array([[1, 3, 1, 3, 0]])), np.array([4])).item()  # each once, however often it stands there
    assert logit == pytest.approx(np.log(3) + expected[0] + expected[2] + expected[4] + expected[5], rel=1e-6)


def test_unknown_words_say_nothing_to_a_linear_model():
    """Nor do pairs with them, though every row of the table has a weight."""
    model = LinearClassifier(4, 50, classes=3).eval()
    model.load_state_dict(
        {"scale": np.ones(54), "encoder.weight": np.random.default_rng(5).standard_normal((54, 3)), "bias": np.array([1.0, 2.0, 3.0])}
    )
    ids = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0]])
    found = model(Tensor(ids), np.array([3, 1, 3])).data
    np.testing.assert_allclose(found[0], [1, 2, 3], rtol=1e-6)
    np.testing.assert_allclose(found[1], found[2], rtol=1e-6)
    assert not np.allclose(found[1], found[0])


def test_the_prior_of_a_calibrated_ensemble():
    """A text without a known word has it, whatever its padding contains; the others have the mean of the members."""
    for classes, prior in ((2, [0.2, 0.8]), (3, [0.2, 0.5, 0.3])):
        members = [make("lstm", classes=classes) for _ in range(2)]
        model, plain = Ensemble(members, calibrated=True), Ensemble(members)
        model.set_prior(np.array(prior))
        ids, lengths = np.array([[0, 0, 5], [3, 0, 0], [0, 0, 0]]), np.array([2, 3, 3])
        found = model(Tensor(ids), lengths).data
        z = np.stack([np.zeros(3), found], axis=1) if classes == 2 else found
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(p[[0, 2]], [prior, prior], rtol=1e-6)
        np.testing.assert_array_equal(found[1], plain(Tensor(ids), lengths).data[1])
        assert sorted(set(model.state_dict()) - set(plain.state_dict())) == ["prior"]


@kinds
def test_logits_divided_by_a_temperature(kind):
    for classes in (2, 3):
        model = Ensemble([make(kind, classes=classes) for _ in range(2)])
        for p in model.parameters():
            p.data[...] = np.random.default_rng(6).standard_normal(p.shape)
        ids = np.random.default_rng(7).integers(0, VOCAB, (4, 7))
        before = model(Tensor(ids), LENGTHS[0]).data
        model.divide_logits(2.5)
        np.testing.assert_allclose(model(Tensor(ids), LENGTHS[0]).data, before / 2.5, rtol=1e-5, atol=1e-6)


def test_ratios_of_three_classes():
    """The spread of the logarithms of the frequencies: that of a word which all classes have alike is 0."""
    model = BagClassifier(3, 2, 7, classes=3)
    model.weigh([np.array([1]), np.array([1]), np.array([1])], np.array([0, 1, 2]))
    assert model.ratios.data[1] == 0
    model.weigh([np.array([1]), np.array([2]), np.array([2])], np.array([0, 1, 2]))
    logs = np.log(np.array([2, 1, 1]) / 11)
    assert model.ratios.data[1] == pytest.approx(logs.std(), rel=1e-6)
