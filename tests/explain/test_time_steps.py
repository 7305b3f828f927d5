"""tinylm.explain.time_steps: what backpropagation through time gives at each step, and that it sums to the op's gradient."""

import io

import numpy as np
import pytest
from rich.console import Console

import tinylm
from tinylm import Tensor, explain
from tinylm.errors import ConfigError

STEPS, BATCH, INPUTS, HIDDEN = 5, 3, 4, 6
BLOCKS = {"rnn": 1, "lstm": 4, "gru": 3}
LENGTHS = np.array([3, 5, 1])


def recurrent(name, seed=0, biased=True, **settings):
    """Returns (the step of the op, its outputs, its inputs): all outputs are used, with random cotangents, in float64."""
    rng = np.random.default_rng(seed)
    rows = BLOCKS[name] * HIDDEN
    shapes = [(STEPS, BATCH, INPUTS), (rows, INPUTS), (rows, HIDDEN), *[(rows,)] * 2, *[(BATCH, HIDDEN)] * (2 if name == "lstm" else 1)]
    inputs = [Tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]
    if not biased:
        inputs[3:] = [None] * len(inputs[3:])
    outputs = getattr(tinylm, name)(*inputs, **settings)
    loss = sum(((y * rng.standard_normal(y.shape)).sum() for y in outputs), Tensor(np.zeros(())))
    (step,) = [step for step in explain.steps(loss) if step.op == name]
    return step, outputs, inputs


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("settings", [{}, {"reverse": True}, {"lengths": LENGTHS}, {"reverse": True, "lengths": LENGTHS}])
@pytest.mark.parametrize("biased", [True, False])
def test_the_contributions_sum_to_the_gradient_of_the_op(name, settings, biased):
    step, outputs, _ = recurrent(name, biased=biased, **settings)
    found = explain.time_steps(step)
    given = {c.argument: c.gradient for c in step.received}
    parts = [found.contribution(t) for t in range(STEPS)]
    assert set(parts[0]) == {argument for argument in given if argument.startswith(("weight", "bias"))}
    for argument in parts[0]:
        np.testing.assert_allclose(sum(part[argument] for part in parts), given[argument], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(found.values["h"], outputs[0].numpy(), rtol=1e-10, atol=1e-12)
    columns = dict(found.table())
    for argument in ("weight_ih", "weight_hh"):
        np.testing.assert_allclose(columns[f"|d {argument}|"], [np.linalg.norm(part[argument]) for part in parts], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "gate", "state"), [("lstm", "forget", "c"), ("gru", "reset", "h"), ("rnn", "h", "h")])
def test_gradients_of_values_are_those_of_differences(name, gate, state):
    """The gradient of a bias is the sum over time of what the gates' preactivations receive: dgate times the slope of the gate."""
    step, _, _ = recurrent(name)
    found = explain.time_steps(step)
    block = {"lstm": 1, "gru": 0, "rnn": 0}[name]
    value, gradient = found.values[gate], found.gradients[gate]
    slope = 1 - value**2 if name == "rnn" else value * (1 - value)
    bias = {c.argument: c.gradient for c in step.received}["bias_ih"][block * HIDDEN : (block + 1) * HIDDEN]
    np.testing.assert_allclose((gradient * slope).sum(axis=(0, 1)), bias, rtol=1e-10, atol=1e-10)
    assert found.gradients[state].shape == (STEPS, BATCH, HIDDEN)


def test_the_last_step_of_a_sequence_receives_what_its_outputs_do():
    step, _, _ = recurrent("rnn")
    found = explain.time_steps(step)
    dy, dh_n = step.incoming
    np.testing.assert_allclose(found.gradients["h"][-1], dy[-1] + dh_n, rtol=1e-12)
    backwards, _, _ = recurrent("rnn", reverse=True)
    dy, dh_n = backwards.incoming
    np.testing.assert_allclose(explain.time_steps(backwards).gradients["h"][0], dy[0] + dh_n, rtol=1e-12)


def test_a_padded_step_gives_nothing():
    step, _, _ = recurrent("lstm", lengths=LENGTHS)
    found = explain.time_steps(step)
    for n, length in enumerate(LENGTHS):
        for gradient in found.gradients.values():
            assert not gradient[length:, n].any()
            assert gradient[length - 1, n].any()


def test_the_terminal_and_refusals():
    step, _, _ = recurrent("gru", reverse=True)
    found = explain.time_steps(step)
    assert repr(found) == "<gru: 5 time steps of 3 sequences, 6 units>"
    console = Console(file=io.StringIO(), width=100)
    console.print(found)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["t", "reset", "update", "candidate", "|h|"] in lines
    assert [line[0] for line in lines if line and line[0].isdigit()] == [*"43210"] * 2, "in the order of the forward pass"
    console.print(found.tables(list("abcde")))
    assert [line.split()[1] for line in console.file.getvalue().splitlines()[-5:]] == ["'e'", "'d'", "'c'", "'b'", "'a'"]
    x = Tensor(1.0, requires_grad=True)
    (step,) = explain.steps(x * 2)
    with pytest.raises(ConfigError, match=r"step 1 is multiply: only rnn, lstm and gru have time steps"):
        explain.time_steps(step)
