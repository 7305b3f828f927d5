"""RNN, LSTM, GRU and their cells compared with PyTorch's: outputs, final states and every gradient."""

import numpy as np
import pytest
import torch
from helpers import ReplayedDropout, assert_close, assert_parity, load_twin
from hypothesis import given, settings
from hypothesis import strategies as st
from recurrent_pairs import KINDS, flat_call, kinds, make_inputs, make_pair

from tinylm import Tensor, nn, ops
from tinylm.engine.random_keys import Generator, default_generator
from tinylm.verify import gradcheck

# ---------------------------------------------------------------- sequences


@settings(max_examples=100)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(KINDS),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4)),
    layers=st.integers(1, 3),
    bias=st.booleans(),
    batch_first=st.booleans(),
    bidirectional=st.booleans(),
    nonlinearity=st.sampled_from(["tanh", "relu"]),
    first=st.booleans(),
    ragged=st.booleans(),
)
def test_equals_pytorch(seed, kind, sizes, layers, bias, batch_first, bidirectional, nonlinearity, first, ragged):
    rng = np.random.default_rng(seed)
    steps, batch, width, hidden = sizes
    options = {"num_layers": layers, "bias": bias, "batch_first": batch_first, "bidirectional": bidirectional}
    options |= {"nonlinearity": nonlinearity} if kind == "RNN" else {}
    ours, theirs = make_pair(kind, width, hidden, **options)
    x_shape = (batch, steps, width) if batch_first else (steps, batch, width)
    state_shape = (layers * (1 + bidirectional), batch, hidden) if first else None
    lengths = rng.integers(1, steps + 1, batch) if ragged else None
    inputs = make_inputs(rng, kind, x_shape, state_shape)
    assert_parity(ours, theirs, inputs, call=flat_call(lengths, batch_first, steps), seed=seed)


@kinds
@pytest.mark.parametrize("lengths", [None, [3, 6, 4]])
def test_float32_equals_pytorch(kind, lengths):
    """tinylm in float32 compared with PyTorch in float64, on a net with its initial weights: in a tiny net with large
    weights a gradient can cancel to less than float32 resolves."""
    theirs = getattr(torch.nn, kind)(4, 5, num_layers=2, bidirectional=True)
    ours = getattr(nn, kind)(4, 5, num_layers=2, bidirectional=True)
    load_twin(ours, theirs, "float32")
    theirs.double()
    rng = np.random.default_rng(12)
    inputs = [x.astype("float32") for x in make_inputs(rng, kind, (6, 3, 4), (4, 3, 5))]
    our_inputs = [Tensor(x, requires_grad=True) for x in inputs]
    their_inputs = [torch.tensor(x.astype("float64"), requires_grad=True) for x in inputs]
    call = flat_call(lengths, False, 6)
    outputs, expected = call(ours, *our_inputs), call(theirs, *their_inputs)
    assert all(y.dtype == np.float32 for y in outputs)
    found = {f"output {i}": (y.data.astype("float64"), r.detach().numpy()) for i, (y, r) in enumerate(zip(outputs, expected, strict=True))}
    assert_close(found, 1e-5)
    for y, r in zip(outputs, expected, strict=True):
        dy = rng.standard_normal(y.shape).astype("float32")
        y.backward(dy, retain_graph=True)
        r.backward(torch.tensor(dy, dtype=torch.float64), retain_graph=True)
    names = dict(theirs.named_parameters())
    gradients = {name: (p.grad.astype("float64"), names[name].grad.numpy()) for name, p in ours.named_parameters()}
    for i, (t, r) in enumerate(zip(our_inputs, their_inputs, strict=True)):
        gradients[f"input {i}"] = t.grad.astype("float64"), r.grad.numpy()
    assert_close(gradients, 1e-5)


@kinds
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_unbatched_equals_pytorch(kind, batch_first, first):
    ours, theirs = make_pair(kind, 3, 2, num_layers=2, bidirectional=True, batch_first=batch_first)
    inputs = make_inputs(np.random.default_rng(1), kind, (4, 3), (4, 2) if first else None)
    assert_parity(ours, theirs, inputs, call=flat_call())


@kinds
def test_empty_batch_equals_pytorch(kind):
    """Compares shapes only: PyTorch itself gives outputs and zero gradients."""
    ours, theirs = make_pair(kind, 3, 2, num_layers=2)
    assert_parity(ours, theirs, make_inputs(np.random.default_rng(2), kind, (4, 0, 3), (2, 0, 2)), call=flat_call())


@kinds
def test_lengths_as_list_and_tensor(kind):
    ours, _ = make_pair(kind, 3, 2, bidirectional=True)
    x = Tensor(np.random.default_rng(3).standard_normal((4, 2, 3)).astype("float32"))
    expected = ours(x, lengths=np.array([4, 2]))[0].data
    for lengths in ([4, 2], Tensor(np.array([4, 2]))):
        np.testing.assert_array_equal(ours(x, lengths=lengths)[0].data, expected)


@kinds
def test_the_last_state_carries_on(kind):
    """A sequence cut in two, with the state passed on, equals the whole sequence."""
    ours, _ = make_pair(kind, 3, 4, num_layers=2)
    ours.to(dtype="float64")
    x = np.random.default_rng(4).standard_normal((6, 2, 3))
    whole, _ = ours(Tensor(x))
    head, state = ours(Tensor(x[:2]))
    tail, _ = ours(Tensor(x[2:]), state)
    assert_close({"output": (np.concatenate([head.data, tail.data]), whole.data)}, 1e-12)


# ---------------------------------------------------------------- dropout between layers


def stacked(theirs, between):
    """Returns a function that runs theirs layer by layer through PyTorch's one-layer function, with `between` applied in between."""

    def forward(x, hx):
        function, directions, finals = getattr(torch, theirs.mode.lower()), 1 + theirs.bidirectional, []
        y = x
        for layer in range(theirs.num_layers):
            part = slice(layer * directions, (layer + 1) * directions)
            weights = [w for direction in theirs.all_weights[part] for w in direction]
            first = tuple(s[part] for s in hx) if isinstance(hx, tuple) else hx[part]
            y, *last = function(between(y) if layer else x, first, weights, True, 1, 0.0, False, theirs.bidirectional, False)
            finals.append(last)
        last = tuple(torch.cat(s) for s in zip(*finals, strict=True))
        return y, last if len(last) > 1 else last[0]

    theirs.forward = forward
    return theirs


@kinds
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_dropout_equals_stacked_layers_with_the_same_masks(kind, bidirectional, dtype):
    generator = Generator()
    _, theirs = make_pair(kind, 3, 4, num_layers=3, bidirectional=bidirectional)
    ours = getattr(nn, kind)(3, 4, num_layers=3, bidirectional=bidirectional, dropout=0.4)
    inputs = make_inputs(np.random.default_rng(5), kind, (5, 2, 3), (3 * (1 + bidirectional), 2, 4))
    generator.state = default_generator.state
    assert_parity(ours, stacked(theirs, ReplayedDropout(0.4, generator)), inputs, call=flat_call(), dtype=dtype)
    assert generator.state == default_generator.state  # as many masks on each side


@kinds
def test_dropout_is_off_in_eval_mode_and_below_two_layers(kind):
    x = Tensor(np.random.default_rng(6).standard_normal((4, 2, 3)).astype("float32"))
    deep, shallow = getattr(nn, kind)(3, 4, num_layers=2, dropout=0.5), getattr(nn, kind)(3, 4, dropout=0.5)
    assert not np.array_equal(deep(x)[0].data, deep(x)[0].data)
    deep.eval()
    for module in (deep, shallow):
        np.testing.assert_array_equal(module(x)[0].data, module(x)[0].data)


# ---------------------------------------------------------------- cells


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(KINDS),
    batch=st.sampled_from([None, 1, 3]),
    width=st.integers(1, 4),
    hidden=st.integers(1, 4),
    bias=st.booleans(),
    nonlinearity=st.sampled_from(["tanh", "relu"]),
    first=st.booleans(),
)
def test_cells_equal_pytorch(seed, kind, batch, width, hidden, bias, nonlinearity, first):
    options = {"bias": bias} | ({"nonlinearity": nonlinearity} if kind == "RNN" else {})
    ours, theirs = make_pair(f"{kind}Cell", width, hidden, **options)
    lead = () if batch is None else (batch,)
    inputs = make_inputs(np.random.default_rng(seed), kind, (*lead, width), (*lead, hidden) if first else None)
    assert_parity(ours, theirs, inputs, call=flat_call(), seed=seed)


@kinds
def test_a_cell_step_by_step_is_the_sequence(kind):
    """The cell's parameters are those of layer 0, and so are the gradients."""
    sequence, cell = getattr(nn, kind)(3, 4).to(dtype="float64"), getattr(nn, f"{kind}Cell")(3, 4).to(dtype="float64")
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in sequence.state_dict().items()})
    x = np.random.default_rng(7).standard_normal((5, 2, 3))
    dy = np.random.default_rng(8).standard_normal((5, 2, 4))
    y, _ = sequence(Tensor(x))
    y.backward(dy)
    state, outputs = None, []
    for x_t in x:
        state = cell(Tensor(x_t), state)
        outputs.append(state[0] if kind == "LSTM" else state)
    steps = ops.stack(outputs)
    steps.backward(dy)
    assert_close({"output": (y.data, steps.data)}, 1e-12)
    gradients = dict(cell.named_parameters())
    assert_close({name: (p.grad, gradients[name.removesuffix("_l0")].grad) for name, p in sequence.named_parameters()}, 1e-12)


# ---------------------------------------------------------------- the sigmoid network with one bias


class SigmoidRNN(torch.nn.Module):
    """h_t = σ(W_hh h_{t-1} + W_xh x_t + b_h), written out."""

    def __init__(self, suffix):
        super().__init__()
        self.names = [name + suffix for name in ("weight_ih", "weight_hh", "bias_h")]
        for name, shape in zip(self.names, ((4, 3), (4, 4), (4,)), strict=True):
            setattr(self, name, torch.nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0))))

    def forward(self, x, h):
        w_xh, w_hh, b_h = (getattr(self, name) for name in self.names)
        if x.ndim == 2:
            return torch.sigmoid(h @ w_hh.T + x @ w_xh.T + b_h)
        h, outputs = h[0], []
        for x_t in x:
            h = torch.sigmoid(h @ w_hh.T + x_t @ w_xh.T + b_h)
            outputs.append(h)
        return torch.stack(outputs), h[None]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sigmoid_network_with_one_bias(dtype):
    rng = np.random.default_rng(9)
    cell = nn.RNNCell(3, 4, nonlinearity="sigmoid", single_bias=True)
    assert_parity(cell, SigmoidRNN(""), make_inputs(rng, "RNN", (2, 3), (2, 4)), dtype=dtype)
    network = nn.RNN(3, 4, nonlinearity="sigmoid", single_bias=True)
    assert_parity(network, SigmoidRNN("_l0"), make_inputs(rng, "RNN", (5, 2, 3), (1, 2, 4)), call=flat_call(), dtype=dtype)


def test_one_bias_is_the_sum_of_two():
    one, two = (nn.RNN(3, 4, 2, bidirectional=True, single_bias=s).to(dtype="float64") for s in (True, False))
    state = two.state_dict()
    merged = {name: value for name, value in state.items() if "bias" not in name}
    merged |= {name.replace("_ih", "_h"): state[name] + state[name.replace("_ih", "_hh")] for name in state if "bias_ih" in name}
    one.load_state_dict(merged)
    x = Tensor(np.random.default_rng(10).standard_normal((5, 2, 3)))
    assert_close({"output": (one(x)[0].data, two(x)[0].data)}, 1e-12)


# ---------------------------------------------------------------- finite differences


@kinds
def test_against_finite_differences(kind):
    """All parameters of a deep bidirectional network with dropout and several lengths."""
    ours = getattr(nn, kind)(2, 2, num_layers=2, bidirectional=True, dropout=0.3, batch_first=True).to(dtype="float64")
    x = np.random.default_rng(11).standard_normal((2, 3, 2))
    for order in (1, 2):
        report = gradcheck(lambda x, *_: flat_call([3, 2])(ours, x), x, *ours.parameters(), order=order)
        assert report.ok, str(report)
