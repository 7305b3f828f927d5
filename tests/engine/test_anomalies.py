"""detect_anomaly names the op and the user's line that first produced a NaN or an infinity."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from helpers import leaf

import tinylm
from tinylm import Tensor, nn, optim
from tinylm.errors import AnomalyError

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's own warning about the same NaN


def here(offset=0):
    frame = inspect.currentframe().f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno + offset}"


def line_of(function):
    """Returns 'file:line' of a function that is written on one line."""
    return f"{__file__}:{function.__code__.co_firstlineno}"


# ---------------------------------------------------------------- the message


def test_the_forward_names_op_line_and_statistics():
    x = Tensor(np.array([-1.0, 2.0]), requires_grad=True)
    where = here(2)
    with tinylm.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        tinylm.log(x)
    expected = f"log ({where}) produced NaN in its value (1 of 2 elements, the first at [0]); argument 0: float64(2,) min -1 max 2 mean 0.5"
    assert str(caught.value) == expected


def test_the_first_op_is_named_not_the_later_ones():
    x = Tensor(np.array([[1e30, 1.0]], np.float32), requires_grad=True)
    layer = nn.Linear(2, 2)
    with tinylm.detect_anomaly(), pytest.raises(AnomalyError, match=r"^multiply "):
        layer(x * x).sum()


# ---------------------------------------------------------------- each way to be born, forward and backward


BORN_FORWARD = [
    # op, what is made, the call, its argument
    ("log", "an infinity", lambda x: tinylm.log(x), [0.0, 1.0]),
    ("log", "NaN", lambda x: x.log(), [-1.0, 1.0]),
    ("log1p", "an infinity", lambda x: tinylm.log1p(x), [-1.0]),
    ("divide", "NaN", lambda x: x / x, [1.0, 0.0]),
    ("divide", "an infinity", lambda x: 1 / x, [1.0, 0.0]),
    ("exp", "an infinity", lambda x: tinylm.exp(x * 100), [1.0, 10.0]),
    ("sqrt", "NaN", lambda x: x.sqrt(), [-1.0]),
    ("power", "NaN", lambda x: x**0.5, [-1.0]),
    ("power", "an infinity", lambda x: x**-1, [0.0]),
    ("divide", "NaN", lambda x: x / tinylm.sqrt((x * x).sum()), [0.0, 0.0]),
    ("layer_norm", "NaN", lambda x: tinylm.layer_norm(x, eps=0.0), [[3.0, 3.0]]),
    ("rms_norm", "NaN", lambda x: tinylm.rms_norm(x, eps=0.0), [[0.0, 0.0]]),
    ("log_softmax", "NaN", lambda x: tinylm.log_softmax(tinylm.where(x > 2, x, -np.inf)), [[1.0, 2.0]]),
    ("subtract", "NaN", lambda x: tinylm.where(x > 2, x, -np.inf) - tinylm.where(x > 2, x, -np.inf), [1.0]),
    ("cross_entropy", "NaN", lambda x: tinylm.cross_entropy(x, np.array([-100])), [[1.0, 2.0]]),
    ("mean", "NaN", lambda x: x[:0].mean(), [1.0]),
    ("matmul", "an infinity", lambda x: x.reshape(2, 1) @ x.reshape(1, 2), [1.0, 1e200]),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "kind", "call", "values"), BORN_FORWARD, ids=lambda x: x if isinstance(x, str) else "")
def test_a_value(name, kind, call, values, dtype):
    x = leaf(np.minimum(values, {"float64": 1e300, "float32": 1e30}[dtype]), dtype)
    with tinylm.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        call(x)
    assert str(caught.value).startswith(f"{name} ({line_of(call)}) produced {kind} in its value")


BORN_BACKWARD = [
    ("sqrt", "an infinity", lambda x: tinylm.sqrt(x), [0.0, 1.0], 1.0),
    ("sqrt", "an infinity", lambda x: tinylm.sqrt((x * x).sum()), [0.0, 0.0], 1.0),
    ("sqrt", "NaN", lambda x: tinylm.where(x > 0, tinylm.sqrt(x), 0.0), [0.0, 1.0], 1.0),
    ("power", "an infinity", lambda x: x**0.5, [0.0, 1.0], 1.0),
    ("power", "NaN", lambda x: (x * 0 - 2) ** x, [2.0], 1.0),
    ("divide", "an infinity", lambda x: 1 / x, [1e-160], 1.0),
    ("log", "an infinity", lambda x: tinylm.log(x), [1e-30], 1e300),
    ("exp", "an infinity", lambda x: tinylm.exp(x), [80.0], 1e300),
    ("multiply", "an infinity", lambda x: x * 1e30, [1.0], 1e300),
    ("matmul", "an infinity", lambda x: x @ np.array([[1e30]]), [[1.0]], 1e300),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("name", "kind", "call", "values", "factor"), BORN_BACKWARD, ids=lambda x: x if isinstance(x, str) else "")
def test_a_gradient(name, kind, call, values, factor, dtype):
    """The line is that of the forward pass. factor: scales the cotangent."""
    if dtype == "float32":
        values, factor = np.where(np.equal(values, 1e-160), 1e-25, values), min(factor, 1e30)
    x = leaf(values, dtype)
    with tinylm.detect_anomaly():
        y = call(x)
        cotangent = np.full(y.shape, factor, dtype)
        with pytest.raises(AnomalyError) as caught:
            y.backward(cotangent)
    assert str(caught.value).startswith(f"{name} ({line_of(call)}) produced {kind} in its gradient")


def test_a_gradient_of_a_gradient():
    """x^1.5 at 0 has the second derivative 0.75 / √x."""
    x = leaf([0.0])
    with tinylm.detect_anomaly():
        y = x**1.5
        g, where = tinylm.grad(y.sum(), x, create_graph=True), here()
        with pytest.raises(AnomalyError, match=re.escape(f"power ({where}, which led to ") + r".*pointwise\.py:\d+\) produced an infinity"):
            g.sum().backward()
        y, forward = tinylm.sqrt(x), here()
        with pytest.raises(AnomalyError) as caught:
            tinylm.grad(y.sum(), x, create_graph=True)
    assert str(caught.value).startswith(f"divide ({here(-1)}, which led to ")
    assert str(caught.value).endswith(f"; this is in the gradient of sqrt ({forward})")


def test_a_learning_rate_that_is_too_high():
    """The weights grow from step to step until a product overflows; the message says what to do about it."""
    tinylm.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((16, 4)).astype(np.float32)
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 1))
    optimizer = optim.SGD(model.parameters(), lr=30.0)

    def step():
        loss = ((model(x) - x[:, :1] ** 2) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return here(-4)

    with tinylm.detect_anomaly():
        where = step()
        with pytest.raises(AnomalyError) as caught:
            [step() for _ in range(100)]
    found = re.match(r"(\w+) \((.*?:\d+)[,)].* produced (NaN|an infinity) in its (value|gradient)", str(caught.value))
    assert found is not None
    assert found[2] == where
    assert "if the weights grow from step to step, try a lower learning rate or clip the gradients" in str(caught.value)


def test_weights_that_have_grown_are_named_first():
    x = Tensor(np.full((1, 2), 1e20, np.float32))
    layer = nn.Linear(2, 2)
    layer.weight.data[...] = 1e25
    with tinylm.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        layer(x)
    place = f"linear ({here(-1)}, which led to {Path(inspect.getfile(nn.Linear))}:"
    assert str(caught.value).startswith(place)
    assert "argument 1, a parameter, reaches 1e+25: if the weights grow" in str(caught.value)


# ---------------------------------------------------------------- what was not finite already


def test_data_that_are_not_finite():
    """The first op that gets them is not to blame, and the message says where they are."""
    x = np.ones((3, 4), np.float32)
    x[1, 2] = x[2, 0] = np.nan
    layer = nn.Linear(4, 2)
    with tinylm.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        layer(x)
    assert str(caught.value).startswith(f"linear ({here(-1)}, which led to ")
    expected = (
        "was given NaN in argument 0 (2 of 12 elements, the first at [1, 2]), and is not to blame: it was not finite already "
        "(data, or computed before); argument 0: float32(3, 4) 2 x NaN min 1 max 1 mean 1; argument 1"
    )
    assert expected in str(caught.value)


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "NaN"), (np.inf, "an infinity"), (-np.inf, "an infinity")])
def test_weights_that_are_not_finite(value, kind):
    embedding = nn.Embedding(5, 3)
    embedding.weight.data[4, 1] = value
    with tinylm.detect_anomaly():
        embedding(np.array([0, 3]))  # the row is not used
        with pytest.raises(AnomalyError) as caught:
            embedding(np.array([0, 4]))
    assert str(caught.value).startswith(f"embedding ({here(-1)}, which led to ")
    expected = (
        f"was given {kind} in argument 1 (1 of 15 elements, the first at [4, 1]), and is not to blame: it was not finite already "
        "(a parameter: its value at the start or its last update made it so)"
    )
    assert expected in str(caught.value)


def test_what_was_computed_before():
    x = leaf([-1.0, 1.0])
    y = tinylm.sqrt(x)
    with tinylm.detect_anomaly(), pytest.raises(AnomalyError) as caught:
        y * 2
    assert "was given NaN in argument 0 (1 of 2 elements, the first at [0]), and is not to blame" in str(caught.value)
    with tinylm.detect_anomaly(), pytest.raises(AnomalyError, match=r"add .* was given NaN in argument 1, and is not to blame"):
        x + np.nan


def test_gradients_that_come_in():
    """A cotangent that is not finite, and finite gradients whose sum overflows."""
    x = leaf([1.0, 2.0])
    with tinylm.detect_anomaly():
        y, where = x * 3, here()
        with pytest.raises(AnomalyError) as caught:
            y.backward(np.array([1.0, np.nan]))
        assert str(caught.value).startswith(
            f"multiply ({where}) was given NaN in the gradient of its value (1 of 2 elements, the first at [1])"
        )
        assert "backward was started with it" in str(caught.value)
        y = x * 3
        with pytest.raises(AnomalyError, match=r"multiply .* was given an infinity in the gradient of its value \(2 of 2"):
            (y + y).backward(np.full(2, 1e308))
        halves = tinylm.split(x, 2)
        with pytest.raises(AnomalyError, match=r"split .* was given NaN in the gradient of its output 1 \(1 of 1"):
            halves[1].backward(np.array([np.nan]))


def test_on_a_gpu(cuda):
    x = Tensor(np.array([[4.0, np.nan], [0.0, 1.0]], np.float32), requires_grad=True).to("cuda")
    with tinylm.detect_anomaly():
        with pytest.raises(
            AnomalyError, match=r"was given NaN in argument 0 \(1 of 4 elements, the first at \[0, 1\]\), and is not to blame"
        ):
            tinylm.softmax(x)
        y, where = tinylm.sqrt(Tensor(x.data[1], requires_grad=True)), here()
        with pytest.raises(AnomalyError) as caught:
            y.sum().backward()
    assert str(caught.value).startswith(f"sqrt ({where}) produced an infinity in its gradient (1 of 2 elements, the first at [0])")
