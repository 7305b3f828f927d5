"""Freed graphs, changed values, and no_grad: each error names the op and its line."""

import inspect
import re

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn
from tinylm.engine.autograd import set_recording
from tinylm.errors import AutogradError


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


def line():
    """Returns 'file:line' of the line that calls this."""
    frame = inspect.currentframe().f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


# ---------------------------------------------------------------- freed and retained graphs


def test_a_second_backward_names_the_op_and_its_line(rng):
    x = leaf(rng, 3)
    y, where = tinylm.exp(x), line()
    y.backward(np.ones(3))
    with pytest.raises(AutogradError) as caught:
        y.backward(np.ones(3))
    assert f"backward through exp ({where}) a second time: its graph was freed; pass retain_graph=True" in str(caught.value)
    with pytest.raises(AutogradError, match="its graph was freed"):
        tinylm.grad(y, x, np.ones(3))


def test_a_shared_part_freed_by_another_walk(rng):
    x = leaf(rng, 3)
    shared, where = x * 2, line()
    (shared * 3).backward(np.ones(3))
    with pytest.raises(AutogradError) as caught:
        (shared * 4).backward(np.ones(3))
    assert f"multiply ({where})" in str(caught.value)


def test_retain_graph(rng):
    x, c = leaf(rng, 3), rng.standard_normal(3)
    y = tinylm.exp(x)
    for times in (1, 2, 3):
        y.backward(c, retain_graph=True)
        np.testing.assert_allclose(x.grad, times * c * y.data)
    for _ in range(2):
        tinylm.grad(y, x, c, retain_graph=True)
    tinylm.grad(y, x, c, create_graph=True)  # keeps it too
    tinylm.grad(y, x, c)
    with pytest.raises(AutogradError, match="its graph was freed"):
        tinylm.grad(y, x, c)


# ---------------------------------------------------------------- values changed in place

WRITES = {
    "setitem": lambda t: t.__setitem__(0, 5.0),
    "a view": lambda t: t[1:].__setitem__(0, 5.0),
    "a view of a view": lambda t: t.reshape(3, 1).T.__setitem__((0, 0), 5.0),
    "detached": lambda t: t.detach().__setitem__(0, 5.0),
    "bump_version": lambda t: t.bump_version(),
}


@pytest.mark.parametrize("how", WRITES)
@pytest.mark.parametrize("what", ["input", "output"])
def test_a_value_written_after_it_was_used(rng, how, what):
    x = leaf(rng, 3)
    y, where = tinylm.exp(x), line()
    with tinylm.no_grad():
        WRITES[how](x if what == "input" else y)
    with pytest.raises(AutogradError) as caught:
        y.backward(np.ones(3))
    assert str(caught.value) == f"backward through exp ({where}): an input or output was changed in place after it was recorded"


def test_writes_before_the_op_are_fine(rng):
    x = leaf(rng, 3)
    with tinylm.no_grad():
        x[0] = 2.0
        x[1:] = Tensor(np.ones(2))
    (x * x).backward(np.ones(3))
    np.testing.assert_array_equal(x.grad, [4, 2, 2])


def test_a_write_to_the_owner_is_seen_through_its_view(rng):
    x = leaf(rng, 4)
    y = tinylm.exp(x[1:3])
    with tinylm.no_grad():
        x[0] = 1.0
    with pytest.raises(AutogradError, match="changed in place"):
        y.backward(np.ones(2))


def test_an_optimiser_step_between_forward_and_backward_is_seen(rng):
    layer = nn.Linear(3, 2)
    y = layer(Tensor(np.ones((1, 3), np.float32)))
    layer.load_state_dict(nn.Linear(3, 2).state_dict())
    with pytest.raises(AutogradError, match=r"backward through linear .*changed in place"):
        y.backward(np.ones((1, 2)))


def test_writes_that_would_lose_a_gradient_are_refused(rng):
    x, buffer = leaf(rng, 3), Tensor(np.zeros(3))
    with pytest.raises(AutogradError, match=r"in-place write to a leaf that requires a gradient \(shape \(3,\)\)"):
        x[0] = 1.0
    with pytest.raises(AutogradError, match="in-place write to a result of the graph"):
        (x * 2)[0] = 1.0
    with pytest.raises(AutogradError, match="in-place write of a value that requires a gradient"):
        buffer[0] = x[0]
    buffer[0] = x[0].detach()
    assert buffer.data[0] == x.data[0]


# ---------------------------------------------------------------- gradients that an array or a name would lose


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool", "complex128"])
def test_an_array_filled_with_tensors_is_refused(rng, dtype):
    """For floating arrays NumPy says "setting an array element with a sequence" and gives the AutogradError as the cause."""
    x, out = leaf(rng, 3), np.zeros((2, 3), dtype)
    squares = [value * value for value in x]

    def fill(value):
        out[0, 1] = value

    def fill_row(value):
        out[0] = value

    for write in (fill, fill_row):
        with pytest.raises((AutogradError, ValueError)) as caught:
            write(squares[1])
        error = caught.value if isinstance(caught.value, AutogradError) else caught.value.__cause__
        assert isinstance(error, AutogradError)
        assert "would lose the gradient of" in str(error)
    assert not out.any()
    with tinylm.no_grad():
        fill(squares[1])
    assert out[0, 1] == np.asarray(squares[1].item()).astype(dtype)
    out[0, 0] = squares[0].detach()
    assert out[0, 0] == np.asarray(squares[0].item()).astype(dtype)
    tinylm.stack(squares).sum().backward()
    np.testing.assert_allclose(x.grad, 2 * x.data)


def test_a_number_is_asked_for_by_functions_and_conditions(rng):
    loss = (leaf(rng, 3) ** 2).sum()
    history = [0.0]
    history[0] = float(loss)
    history += [float(loss), round(float(loss), 2), max(map(float, [loss]))]
    assert history[0] == loss.item()
    assert int(loss) == int(loss.item())
    assert (1 if loss > 0 else 0) == 1
    assert bool(loss)
    assert f"{float(loss):.1f}"
    kept = {}
    kept[0] = [loss]  # a list or a dict keeps the tensor itself
    assert kept[0][0] is loss


@pytest.mark.parametrize("kind", ["a leaf that requires a gradient", "a parameter"])
@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("symbol", ["+=", "-=", "*=", "/=", "**=", "@="])
def test_augmented_assignment_to_a_leaf_is_refused(rng, symbol, recording, kind):
    if kind == "a parameter":
        leaves = [nn.Parameter(np.ones((2, 2))), nn.Parameter(np.ones((2, 2)), requires_grad=False)]
    else:
        leaves = [leaf(rng, 2, 2)]
    for x in leaves:
        names = {"x": x, "y": np.ones((2, 2))}
        message = (
            f"x {symbol} y on {kind} (shape (2, 2)) would make x another tensor: write z = x {symbol[:-1]} y for a new tensor, or x[...]"
        )
        with pytest.raises(AutogradError, match=re.escape(message)), set_recording(recording):
            exec(f"x {symbol} y", names)
        assert names["x"] is x
        with tinylm.no_grad():
            x[...] = x - 0.5  # what the message says
        assert x.version > 0


@pytest.mark.parametrize("symbol", ["+=", "-=", "*=", "/=", "**=", "@="])
def test_augmented_assignment_to_a_result_makes_a_new_tensor(rng, symbol):
    x, y = leaf(rng, 2, 2), np.full((2, 2), 2.0)
    names = {"h": x * 1, "y": y}
    before = names["h"]
    exec(f"h {symbol} y", names)
    assert names["h"] is not before
    found = tinylm.grad(names["h"], x, np.ones((2, 2)))
    names = {"h": x, "y": y}
    np.testing.assert_array_equal(found.data, tinylm.grad(eval(f"h {symbol[:-1]} y", names), x, np.ones((2, 2))).data)
    values = {"b": Tensor(np.ones((2, 2)))}  # without a gradient there is none to lose
    exec(f"b {symbol} 2.0" if symbol != "@=" else "b @= b", values)
    assert values["b"].shape == (2, 2)


# ---------------------------------------------------------------- no_grad


def test_no_grad_as_context_and_decorator(rng):
    x = leaf(rng, 3)

    @tinylm.no_grad()
    def double(t):
        return t * 2

    with tinylm.no_grad():
        assert not (x * 2).requires_grad
    for _ in range(2):
        assert not double(x).requires_grad
    assert (x * 2).requires_grad


def test_no_grad_ends_with_an_exception(rng):
    x = leaf(rng, 3)
    with pytest.raises(KeyError), tinylm.no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_grad_works_inside_no_grad_on_a_graph_made_before(rng):
    x = leaf(rng, 3)
    y = x * x
    with tinylm.no_grad():
        np.testing.assert_allclose(tinylm.grad(y, x, np.ones(3)).data, 2 * x.data)
