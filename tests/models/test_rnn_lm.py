"""RNNModel compared with the same model in PyTorch: gradients, masks, training runs, initial weights."""

import numpy as np
import pytest
import torch
from helpers import ReplayedDropout, assert_parity, load_twin, randomise
from hypothesis import given
from hypothesis import strategies as st

import tinylm
from tinylm.data import ParallelStreams
from tinylm.engine.random_keys import Generator, default_generator
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError, ShapeError
from tinylm.models import RNNModel
from tinylm.optim import AdamW

KINDS = ["rnn", "lstm", "gru"]
kinds = pytest.mark.parametrize("kind", KINDS)
dtypes = pytest.mark.parametrize("dtype", ["float64", "float32"])


class TorchRNNModel(torch.nn.Module):
    """decoder(drop(rnn(drop(encoder(ids))))) of PyTorch's layers, called in PyTorch's way if there is no dropout."""

    def __init__(self, kind, ntoken, ninp, nhid, nlayers, tie_weights=False, nonlinearity="tanh", drop=None):
        super().__init__()
        self.encoder = torch.nn.Embedding(ntoken, ninp)
        settings = {"nonlinearity": nonlinearity} if nonlinearity == "relu" else {}
        self.rnn = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[kind](ninp, nhid, nlayers, **settings)
        self.decoder = torch.nn.Linear(nhid, ntoken)
        if tie_weights:
            self.decoder.weight = self.encoder.weight
        self.nonlinearity, self.drop = nonlinearity, drop

    def forward(self, ids, hidden=None):
        if self.drop is None and self.nonlinearity != "sigmoid":
            y, hidden = self.rnn(self.encoder(ids), hidden)
            return self.decoder(y), hidden
        drop = self.drop or torch.nn.Identity()
        y, hidden = self.layer_by_layer(drop(self.encoder(ids)), hidden, drop)
        return self.decoder(drop(y)), hidden

    def layer_by_layer(self, x, hidden, drop):
        """One-layer networks one after another, with dropout in between."""
        several = isinstance(self.rnn, torch.nn.LSTM)
        if hidden is None:
            zeros = torch.zeros(self.rnn.num_layers, x.shape[1], self.rnn.hidden_size, dtype=x.dtype)
            hidden = (zeros, zeros) if several else zeros
        finals = []
        for layer, weights in enumerate(self.rnn.all_weights):
            x = drop(x) if layer else x
            part = slice(layer, layer + 1)
            if self.nonlinearity == "sigmoid":
                x, *last = sigmoid_layer(x, hidden[part], weights)
            else:
                first = tuple(s[part] for s in hidden) if several else hidden[part]
                function = getattr(torch, self.rnn.mode.lower())
                x, *last = function(x, first, weights, True, 1, 0.0, False, False, False)
            finals.append(last)
        states = tuple(torch.cat(s) for s in zip(*finals, strict=True))
        return x, states if several else states[0]


def sigmoid_layer(x, h, weights):
    """Computes h_t = σ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), which PyTorch lacks."""
    w_ih, w_hh, b_ih, b_hh = weights
    h, outputs = h[0], []
    for x_t in x:
        h = torch.sigmoid(x_t @ w_ih.T + b_ih + h @ w_hh.T + b_hh)
        outputs.append(h)
    return torch.stack(outputs), h[None]


def flat_call(module, ids, *states):
    """Returns (logits, states...); the states go in and come out in the module's form."""
    logits, hidden = module(ids, None if not states else states[0] if len(states) == 1 else states)
    return (logits, *hidden) if isinstance(hidden, tuple) else (logits, hidden)


def inputs_of(rng, kind, steps, batch, state_shape, ntoken=11):
    """Returns [ids], or [ids, h] or [ids, h, c] with a state shape."""
    states = 0 if state_shape is None else 2 if kind == "lstm" else 1
    return [rng.integers(0, ntoken, (steps, batch))] + [rng.standard_normal(state_shape) for _ in range(states)]


# ---------------------------------------------------------------- outputs, states, every gradient


@dtypes
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(KINDS),
    sizes=st.tuples(st.integers(1, 6), st.integers(1, 3), st.integers(4, 8), st.integers(4, 8)),
    layers=st.integers(1, 3),
    tie_weights=st.booleans(),
    nonlinearity=st.sampled_from(["tanh", "relu", "sigmoid"]),
    first=st.booleans(),
)
def test_equals_pytorch(dtype, seed, kind, sizes, layers, tie_weights, nonlinearity, first):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    steps, batch, width, hidden = sizes
    width = hidden if tie_weights else width
    nonlinearity = nonlinearity if kind == "rnn" else "tanh"
    theirs = TorchRNNModel(kind, 11, width, hidden, layers, tie_weights, nonlinearity)
    randomise(theirs, rng)
    ours = RNNModel(kind, 11, width, hidden, layers, 0.0, tie_weights, nonlinearity)
    inputs = inputs_of(rng, kind, steps, batch, (layers, batch, hidden) if first else None)
    assert_parity(ours, theirs, inputs, call=flat_call, dtype=dtype, seed=seed)


@kinds
@dtypes
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("tie_weights", [False, True])
def test_dropout_equals_pytorch_with_the_same_masks(kind, dtype, layers, tie_weights):
    """Masks for the embedding, between the layers and for the output, in this order."""
    rng, generator = np.random.default_rng(1), Generator()
    torch.manual_seed(1)
    theirs = TorchRNNModel(kind, 11, 6, 6, layers, tie_weights, drop=ReplayedDropout(0.3, generator))
    randomise(theirs, rng)
    ours = RNNModel(kind, 11, 6, 6, layers, 0.3, tie_weights)
    before = generator.state = default_generator.state
    assert_parity(ours, theirs, inputs_of(rng, kind, 5, 3, (layers, 3, 6)), call=flat_call, dtype=dtype)
    assert default_generator.state[1] == generator.state[1] == before[1] + layers + 1


# ---------------------------------------------------------------- training


CLIP = 0.5


# float32: the roundings of the two sides differ from the first step on, and a hundred steps of AdamW
# amplify that; the losses start at 2.4.
@pytest.mark.parametrize("kind", ["lstm", "rnn"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-8), ("float32", 5e-3)])
def test_training_gives_pytorchs_losses(kind, dtype, tolerance):
    """Truncated backpropagation through time: the state is carried, but not its gradient; with dropout, clipping and weight decay."""
    generator = Generator()
    torch.manual_seed(2)
    theirs = TorchRNNModel(kind, 11, 12, 12, 2, drop=ReplayedDropout(0.1, generator))
    ours = RNNModel(kind, 11, 12, 12, 2, 0.1)
    load_twin(ours, theirs, dtype)
    text = np.cumsum(np.random.default_rng(3).integers(0, 3, 1500)) % 11  # the next token is one of three
    batches = ParallelStreams(text, 8, 4, seed=0)
    settings = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 0.1}
    optimizer, their_optimizer = AdamW(ours.parameters(), **settings), torch.optim.AdamW(theirs.parameters(), **settings)
    state, their_state = None, None
    losses, expected, norms = [], [], []
    for k in range(100):
        x, y = batches[k]
        if batches.starts_afresh(k):
            state, their_state = None, None
        generator.state = default_generator.state
        logits, state = ours.advance(Tensor(x), state)
        state = [s.detach() for s in state]
        loss = tinylm.cross_entropy(logits, y)
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(optimizer.step(max_norm=CLIP)))
        losses.append(loss.item())

        logits, their_state = theirs(torch.tensor(x.T), their_state)
        their_state = tuple(s.detach() for s in their_state) if kind == "lstm" else their_state.detach()
        their_loss = torch.nn.functional.cross_entropy(logits.permute(1, 0, 2).reshape(-1, 11), torch.tensor(y).reshape(-1))
        their_optimizer.zero_grad()
        their_loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), CLIP)
        their_optimizer.step()
        expected.append(their_loss.item())
    assert 1 < batches.batches_per_epoch < 100  # the state was carried, and was dropped at an epoch's end
    assert min(norms) < CLIP < max(norms)  # some steps were clipped, some not
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.3
    np.testing.assert_allclose(losses, expected, rtol=0, atol=tolerance)


# ---------------------------------------------------------------- what the model is


@kinds
def test_names_shapes_and_initial_weights(kind):
    model = RNNModel(kind, 1000, 16, 24, 2)
    theirs = TorchRNNModel(kind, 1000, 16, 24, 2)
    assert [(n, v.shape) for n, v in model.state_dict().items()] == [(n, tuple(v.shape)) for n, v in theirs.state_dict().items()]
    assert (model.vocab_size, model.block_size) == (1000, None)
    assert model.drop.p == model.rnn.dropout == 0.5
    assert model.encoder.weight.data.mean() == pytest.approx(0, abs=0.03)
    assert model.encoder.weight.data.std() == pytest.approx(1, rel=0.02)
    for weight in (model.decoder.weight, model.decoder.bias, model.rnn.weight_hh_l1):
        assert 0.95 / 24**0.5 < np.abs(weight.data).max() <= 1 / 24**0.5


def test_tied_weights_are_one_parameter():
    tied, free = RNNModel("gru", 50, 8, 8, 1, tie_weights=True), RNNModel("gru", 50, 8, 8, 1)
    assert tied.decoder.weight is tied.encoder.weight
    assert free.num_parameters() - tied.num_parameters() == 50 * 8
    names = [name for name, _ in tied.named_parameters()]
    assert "encoder.weight" in names
    assert "decoder.weight" not in names
    assert 0.095 < np.abs(tied.encoder.weight.data).max() <= 0.1


@kinds
def test_advance_is_forward_with_the_batch_first(kind):
    """With its state passed on, it continues the text."""
    model = RNNModel(kind, 11, 5, 6, 2).to(dtype="float64").eval()
    ids = np.random.default_rng(4).integers(0, 11, (3, 7))
    logits, hidden = model(Tensor(ids.T))
    batch_first, state = model.advance(Tensor(ids))
    np.testing.assert_array_equal(batch_first.data, logits.data.transpose(1, 0, 2))
    for a, b in zip(state, hidden if kind == "lstm" else [hidden], strict=True):
        np.testing.assert_array_equal(a.data, b.data)
        assert a.shape == (2, 3, 6)
    head, state = model.advance(Tensor(ids[:, :3]))
    kept = [s.data.copy() for s in state]
    tail, _ = model.advance(Tensor(ids[:, 3:]), state)
    np.testing.assert_allclose(np.concatenate([head.data, tail.data], axis=1), batch_first.data, rtol=0, atol=1e-14)
    for s, before in zip(state, kept, strict=True):
        np.testing.assert_array_equal(s.data, before)  # so the same state can be continued twice


def test_dropout_acts_in_training_only_and_repeats_with_the_seed():
    model = RNNModel("lstm", 11, 5, 6, 2, 0.5)
    ids = Tensor(np.zeros((4, 2), np.int64))
    tinylm.manual_seed(1)
    first = model(ids)[0].data
    assert not np.array_equal(model(ids)[0].data, first)
    tinylm.manual_seed(1)
    np.testing.assert_array_equal(model(ids)[0].data, first)
    model.eval()
    np.testing.assert_array_equal(model(ids)[0].data, model(ids)[0].data)


def test_errors():
    for arguments, message in [
        ({"rnn_type": "LSTM"}, "rnn_type 'LSTM': expected 'rnn', 'lstm' or 'gru'"),
        ({"tie_weights": True}, "tied weights need ninp = nhid, got 5 and 6"),
        ({"nonlinearity": "gelu"}, "nonlinearity 'gelu'"),
        ({"dropout": 1.5}, "dropout probability 1.5 is out of range"),
        ({"nlayers": 0}, "nlayers is 0: expected at least 1"),
        ({"ntoken": 0}, "ntoken is 0: expected at least 1"),
        ({"ninp": 0}, "ninp is 0: expected at least 1"),
        ({"nhid": -1}, "nhid is -1: expected at least 1"),
    ]:
        with pytest.raises(ConfigError, match=message):
            RNNModel(**{"rnn_type": "rnn", "ntoken": 11, "ninp": 5, "nhid": 6, "nlayers": 2} | arguments)
    model = RNNModel("lstm", 11, 5, 6, 2)
    with pytest.raises(RangeError, match="token id 11 is out of range: expected 0 to 10"):
        model(Tensor(np.array([[11]])))
    with pytest.raises(ShapeError, match=r"initial state has shape \(2, 3, 6\), expected \(2, 1, 6\)"):
        model(Tensor(np.array([[1]])), (Tensor(np.zeros((2, 3, 6), np.float32)),) * 2)
