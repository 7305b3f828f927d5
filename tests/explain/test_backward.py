"""tinylm.explain.steps: it shows what backward does, bit for bit, and the right names."""

import inspect
import io
import re

import numpy as np
import pytest
from rich.console import Console

import tinylm
from tinylm import Tensor, explain, nn
from tinylm.errors import AutogradError, ShapeError
from tinylm.explain import terminal
from tinylm.models import GPT, GPTConfig, RNNModel, TransformerModel, Translator


def leaf(values):
    return Tensor(np.asarray(values, np.float64), requires_grad=True)


def ids(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).integers(0, 11, shape))


def printed(thing):
    console = Console(file=io.StringIO(), width=160)
    console.print(thing)
    return console.file.getvalue()


# ---------------------------------------------------------------- by hand


def test_every_piece_of_a_small_graph():
    x, y = leaf(3.0), leaf(2.0)
    product = x * y
    loss = product + x
    first, second = explain.steps(loss)
    assert (first.number, first.op, first.incoming) == (1, "add", [1.0])
    assert [(c.argument, c.tensor, float(c.gradient), c.count) for c in first.received] == [("a", product, 1.0, 1), ("b", x, 1.0, 1)]
    assert (second.number, second.op, second.incoming) == (2, "multiply", [1.0])
    assert second.formula == "a b.  da = dy b, db = dy a."
    assert second.inputs == [("a", ()), ("b", ())]
    to_x, to_y = second.received
    assert (to_x.tensor, float(to_x.gradient), to_x.count, float(to_x.total)) == (x, 2.0, 2, 3.0)
    assert (to_y.tensor, float(to_y.gradient), to_y.count, float(to_y.total)) == (y, 3.0, 1, 3.0)
    assert first.received[0].name == f"multiply at {second.where}"
    of_x, of_y = explain.leaves([first, second])
    assert (of_x.tensor, float(of_x.gradient)) == (x, 3.0)
    assert [(step.number, c.argument) for step, c in of_x.parts] == [(1, "b"), (2, "a")]
    assert (of_y.tensor, float(of_y.gradient)) == (y, 3.0)


def test_a_matrix_product():
    """Y = A B, loss = Σ Y: dA = 1 Bᵀ, dB = Aᵀ 1."""
    a, b = leaf([[1, 2]]), leaf([[3, 4, 5], [6, 7, 8]])
    total, product = explain.steps((a @ b).sum())
    assert total.op == "sum"
    np.testing.assert_array_equal(total.received[0].gradient, [[1, 1, 1]])
    np.testing.assert_array_equal(product.received[0].gradient, [[12, 21]])
    np.testing.assert_array_equal(product.received[1].gradient, [[1, 1, 1], [2, 2, 2]])


def test_the_line_that_made_a_node():
    x = leaf([1.0, 2.0])
    y = tinylm.exp(x)  # this line
    line = inspect.currentframe().f_lineno - 1
    (step,) = explain.steps(y, np.ones(2))
    assert step.where == f"{__file__}:{line}"
    assert step.code == "y = tinylm.exp(x)  # this line"


def test_numbers_sequences_and_absent_arguments():
    x, y = leaf([1.0]), leaf([2.0])
    joined, doubled = explain.steps(tinylm.concatenate([x * 2, y]), np.array([5.0, 7.0]))
    assert joined.inputs == [("arrays[0]", (1,)), ("arrays[1]", (1,))]
    assert [(c.argument, c.gradient.tolist()) for c in joined.received] == [("arrays[0]", [5.0]), ("arrays[1]", [7.0])]
    assert doubled.inputs == [("a", (1,)), ("b", None)]
    assert [(c.argument, c.gradient.tolist()) for c in doubled.received] == [("a", [10.0])]


def test_outputs_that_get_no_gradient():
    x = leaf([1.0, 2.0, 3.0])
    first, _, last = tinylm.split(x, 3)
    *_, step = explain.steps((first * last).sum())
    assert step.op == "split"
    assert [None if g is None else g.tolist() for g in step.incoming] == [[3.0], None, [1.0]]
    assert step.received[0].gradient.tolist() == [3.0, 0.0, 1.0]


# ---------------------------------------------------------------- bit for bit


def gpt():
    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=2, n_head=2, n_embd=16, dropout=0.1, bias=True))
    return model, model.loss(ids(3, 8), ids(3, 8, seed=1))[0]


def transformer():
    model = TransformerModel(11, 16, 2, 24, 2, dropout=0.1)
    return model, model.loss(ids(3, 8), ids(3, 8, seed=1))[0]


def lstm():
    model = RNNModel("lstm", 11, 12, 12, 2, dropout=0.1, tie_weights=True)
    return model, model.loss(ids(3, 8), ids(3, 8, seed=1))[0]


def translator():
    model = Translator(11, 16, 2, 24, 2)
    logits = model(ids(3, 6), np.array([6, 4, 2]), ids(3, 5, seed=1))
    return model, tinylm.cross_entropy(logits, ids(3, 5, seed=2))


def recomputed():
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 6))
    x = Tensor(np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32), requires_grad=True)
    inner = tinylm.recompute(lambda h: tinylm.dropout(tinylm.tanh(model[1](h)), 0.5), model[0](x))
    return model, (inner * inner + model[1](inner)).sum()


@pytest.mark.parametrize("build", [gpt, transformer, lstm, translator, recomputed])
def test_the_gradients_are_those_of_backward(build):
    model, loss = build()
    walked = list(explain.steps(loss, model=model))
    assert all(p.grad is None for p in model.parameters()), "explaining writes no gradient"
    found = {leaf.tensor: leaf for leaf in explain.leaves(walked)}
    received = [c for step in walked for c in step.received]
    loss.backward()
    for name, p in model.named_parameters():
        assert p.grad is not None
        assert name in found[p].name.split(" = ")
        np.testing.assert_array_equal(found[p].gradient, p.grad)
        total = None
        for _, c in found[p].parts:
            total = c.gradient if total is None else total + c.gradient
        np.testing.assert_array_equal(total, p.grad)
    for step in walked[1:]:  # each incoming gradient is the sum of the contributions to that output
        for i, incoming in enumerate(step.incoming):
            given = [c.gradient for c in received if c.tensor.node is step.node and c.tensor.output == i]
            assert (incoming is None) == (not given)
            if given:
                np.testing.assert_array_equal(incoming, sum(given[1:], given[0]))


@pytest.mark.parametrize("build", [gpt, lstm])
def test_the_same_on_a_gpu(cuda, build):
    on_cpu, loss = build()
    expected = {leaf.name: leaf.gradient for leaf in explain.leaves(explain.steps(loss, model=on_cpu))}
    tinylm.manual_seed(0)
    model, _ = build()
    model.eval().to("cuda")
    loss, _ = model.loss(ids(3, 8).to("cuda"), ids(3, 8, seed=1).to("cuda"))
    walked = list(explain.steps(loss, model=model))
    found = {leaf.tensor: leaf for leaf in explain.leaves(walked)}
    assert {leaf.name for leaf in found.values()} == set(expected)
    assert "cross_entropy" in printed(terminal.overview(walked))
    loss.backward()
    for p in model.parameters():
        assert isinstance(found[p].gradient, cuda.ndarray)
        np.testing.assert_array_equal(found[p].gradient.get(), p.grad.get())


def test_sums_in_backwards_order():
    """In float32, 10⁸ + 1 - 10⁸ is 0 or 1, depending on the order."""
    x = Tensor(np.ones(1, np.float32), requires_grad=True)
    for factors in ((1e8, 1.0, -1e8), (1e8, -1e8, 1.0), (1.0, 1e8, -1e8)):
        first, second, third = (x * f for f in factors)
        loss = ((first + second) + third).sum()
        (only,) = explain.leaves(explain.steps(loss))
        x.grad = None
        loss.backward()
        assert only.gradient == x.grad
        assert len(only.parts) == 3


def test_the_graph_may_be_walked_step_by_step():
    x = leaf([1.0, 2.0])
    loss = (x * x * x).sum()
    walk = explain.steps(loss)
    assert next(walk).op == "sum"
    assert next(walk).op == "multiply"
    assert len(list(explain.steps(loss))) == 3, "a second iteration does not disturb the first"
    assert [step.number for step in walk] == [3]
    loss.backward()
    np.testing.assert_array_equal(x.grad, [3.0, 12.0])


# ---------------------------------------------------------------- names


def test_modules_of_a_gpt():
    model, loss = gpt()
    model.eval()
    loss, _ = model.loss(ids(3, 8), ids(3, 8, seed=1))
    places = [(step.op, step.module) for step in explain.steps(loss, model=model)]
    assert places[:6] == [
        ("cross_entropy", ""),
        ("linear", "lm_head"),  # its weight is also wte's
        ("layer_norm", "transformer.ln_f"),
        ("linear", "transformer.h.1.mlp.c_proj"),
        ("linear", "transformer.h.1.mlp.c_fc"),
        ("layer_norm", "transformer.h.1.ln_2"),
    ]
    attention = {op for op, module in places if module == "transformer.h.0.attn"}
    assert "scaled_dot_product_attention" in attention
    assert "linear" not in attention
    assert len(attention) > 1, "and the ops around it that take no parameter"
    assert places[-3:] == [("add", "transformer"), ("embedding", "transformer.wpe"), ("embedding", "transformer.wte")]


def test_without_a_model_there_are_no_names():
    _, loss = gpt()
    walked = list(explain.steps(loss))
    assert {step.module for step in walked} == {""}
    names = {leaf.name for leaf in explain.leaves(walked)}
    assert len(names) > 3, "leaves are named by where they are used"
    for name in names:
        assert re.fullmatch(r"(weight|bias|a|b) of \w+ at tinylm/(nn|models)/\w+\.py:\d+", name), name


def test_names_of_leaves():
    """A parameter's path; the caller's variable, the innermost one that holds it; and where it is used if there is none."""
    model = nn.Linear(2, 1)
    w, data = leaf([2.0, 3.0]), {"held": leaf([5.0, 7.0])}

    def inner(first):
        return {found.name for found in explain.leaves(explain.steps((first * data["held"]).sum()))}

    line = inspect.currentframe().f_lineno - 2
    assert inner(w) == {"first", f"b of multiply at test_backward.py:{line}"}
    x = Tensor(np.ones((1, 2), np.float32), requires_grad=True)
    assert {found.name for found in explain.leaves(explain.steps(model(x), model=model))} == {"weight", "bias", "input x"}


def test_values_beside_gradients():
    """y = A x, loss = Σ (y y): each step has its output and its arguments beside what they receive."""
    a, x = leaf([[1.0, 2.0], [3.0, 4.0]]), leaf([1.0, -1.0])
    y = a @ x
    total, square, product = explain.steps((y * y).sum())
    assert [(name, v.tolist(), g.tolist()) for name, v, g, _ in total.rows()] == [("output", 2.0, 1.0), ("x", [1.0, 1.0], [1.0, 1.0])]
    assert [(name, v.tolist(), g.tolist()) for name, v, g, _ in square.rows()] == [
        ("output", [1.0, 1.0], [1.0, 1.0]), ("a", [-1.0, -1.0], [-1.0, -1.0]), ("b", [-1.0, -1.0], [-1.0, -1.0]),
    ]  # fmt: skip
    output, to_a, to_x = product.rows()
    assert (output[1].tolist(), output[2].tolist()) == ([-1.0, -1.0], [-2.0, -2.0])
    assert (to_a[1].tolist(), to_a[2].tolist()) == (a.data.tolist(), [[-2.0, 2.0], [-2.0, 2.0]])
    assert (to_x[1].tolist(), to_x[2].tolist()) == ([1.0, -1.0], [-8.0, -12.0])
    (doubled,) = explain.steps(x * 2, np.ones(2))
    assert [(name, value) for name, value, _, _ in doubled.rows()][2] == ("b", 2), "a number"


def test_a_recomputed_function_shows_what_it_computes_again():
    model, loss = recomputed()
    walked = list(explain.steps(loss, model=model))
    names = [step.op for step in walked]
    at = names.index("recompute")
    assert names[at + 1 : at + 4] == ["dropout", "tanh", "linear"]
    assert walked[at + 3].module == "1"
    assert "runs again" in walked[at].formula


# ---------------------------------------------------------------- refusals


def test_what_backward_refuses():
    x = leaf([1.0, 2.0])
    with pytest.raises(AutogradError, match="does not depend"):
        explain.steps(Tensor(1.0))
    with pytest.raises(AutogradError, match="needs a cotangent"):
        explain.steps(x * 2)
    with pytest.raises(ShapeError, match="cotangent"):
        explain.steps(x * 2, np.ones(3))
    loss = (x * x).sum()
    with tinylm.no_grad():
        x[0] = 5.0
    with pytest.raises(AutogradError, match=r"multiply .*changed in place"):
        list(explain.steps(loss))
    loss = x.sum()
    loss.backward()
    with pytest.raises(AutogradError, match="was freed"):
        list(explain.steps(loss))


def test_a_vjp_must_keep_its_contract():
    @tinylm.op
    def wide(x, /):
        return x * 2, lambda dy: (dy.astype(np.float64) * 2,)

    @tinylm.op
    def misshapen(x, /):
        return x * 2, lambda dy: (dy[:1],)

    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    *_, step = explain.steps(wide(x).sum())
    assert step.received[0].gradient.dtype == np.float32
    with pytest.raises(ShapeError, match="vjp of misshapen"):
        list(explain.steps(misshapen(x).sum()))
