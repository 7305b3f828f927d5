"""One call of an op: how its arguments reach the body, and what the tensors that it returns are."""

import re

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.engine.autograd import nodes
from tinylm.engine.grad import grad
from tinylm.engine.kernels import launches
from tinylm.engine.op import op
from tinylm.engine.random_keys import current
from tinylm.errors import AnomalyError, DeviceError


@pytest.fixture
def seen():
    return []


@pytest.fixture
def noted(seen):
    """Provides an op of two optional arrays and two settings that notes what its body gets."""

    @tinylm.op
    def noted(x, y=None, z=None, /, scale=2, *, shift=0):
        seen.append((x, y, z, scale, shift))
        return x * scale, lambda dy: (dy * scale, None, None)

    return noted


def test_arguments_reach_the_body_as_arrays_and_pythons_numbers(noted, seen):
    x = Tensor(np.ones(2, np.float32))
    cases = [
        ((x,), {}, (x.data, None, None, 2, 0)),
        ((x, 3), {}, (x.data, 3, None, 2, 0)),
        ((x, 3, 4.5, 5), {}, (x.data, 3, 4.5, 5, 0)),
        ((x, None, True, np.float64(5)), {"shift": np.float64(6)}, (x.data, None, True, 5.0, 6.0)),
        ((x, np.int64(3), np.float64(4)), {"scale": np.int32(7)}, (x.data, 3, 4.0, 7, 0)),
    ]
    for args, settings, expected in cases:
        y = noted(*args, **settings)
        found = seen.pop()
        assert found[0] is expected[0]
        assert [(type(a), a) for a in found[1:]] == [(type(a), a) for a in expected[1:]]
        assert y.dtype == np.float32
    noted([1, 2])
    assert isinstance(seen.pop()[0], np.ndarray)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        noted()
    with pytest.raises(TypeError, match="takes from 1 to 4 positional arguments but 5 were given"):
        noted(x, None, None, 2, 3)


def test_an_out_argument_is_refused_unless_the_body_takes_one(noted):
    with pytest.raises(TypeError, match=re.escape("noted() takes no out, as NumPy's function passes it: call tinylm.noted for a tensor")):
        noted(Tensor(np.ones(1)), out=None)
    for body in (lambda x, /, *, out=3: (x * out, None), lambda x, /, **rest: (x * rest["out"], None)):
        assert tinylm.op(body)(Tensor(np.ones(1)), out=4).item() == 4


def test_parameters_without_a_slash_may_be_named_and_left_out():
    @tinylm.op
    def plus(a, b, c=None, *, k=1):
        return a + 2 * b + (0 if c is None else 4 * c) * k, None

    one = Tensor(np.ones(1))
    assert [plus(one, one).item(), plus(one, b=one).item(), plus(one, one, one, k=2).item(), plus(a=one, b=one, c=one).item()] == [
        3,
        3,
        11,
        7,
    ]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        plus(one)


def test_a_result_is_a_tensor_of_its_own(noted):
    x = Tensor(np.ones(2), requires_grad=True)
    plain, tracked = noted(Tensor(np.ones(2))), noted(x)
    for y in (plain, tracked):
        assert (y.grad, y.grad_buffer, y.output, y.version_cell) == (None, None, 0, [0])
        assert y.version_cell is not x.version_cell
    assert (plain.requires_grad, plain.node) == (False, None)
    assert tracked.requires_grad
    node = tracked.node
    assert node.op is noted.op
    assert node.parents == [x, None, None]
    assert node.inputs == (x, None, None)
    assert node.settings == ((), {})
    assert node.cells[0] is x.version_cell
    assert node.cells[-1] is tracked.version_cell
    assert noted(x, None, None, 3, shift=4).node.settings == ((3,), {"shift": 4})
    with tinylm.no_grad():
        assert not noted(x).requires_grad
    assert noted(Tensor(np.ones(1)), x).requires_grad, "any argument may require it"


@pytest.mark.parametrize(
    ("view", "shared"),
    [
        (lambda x: x[1:], True),
        (lambda x: x.T, True),
        (lambda x: x, True),
        (lambda x: x.copy(), False),
        (lambda x: x.copy()[1:], False),  # a view, of something else
        (lambda x: float(x.sum()), False),
        (lambda x: x.sum(), False),
    ],
)
def test_a_view_shares_the_version_of_its_argument(view, shared):
    viewed = tinylm.op(lambda a, x, b, /: ((view(x), lambda dy: (None, None, None))))
    memory = np.arange(6.0)
    for data in (memory.copy(), memory.copy().reshape(2, 3), memory[:4]):
        x, other = Tensor(data), Tensor(np.ones(2))
        y = viewed(other, x, other)
        assert (y.version_cell is x.version_cell) is shared
        assert y.version_cell is not other.version_cell
        assert isinstance(y.data, np.ndarray)


def test_several_outputs_each_know_their_number():
    three = tinylm.op(lambda x, /: ((x * 2, x.astype(int), x[:1]), lambda dy, di, dz: (dy * 2 + np.pad(dz, (0, 1)),)))
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    outputs = three(x)
    assert [t.output for t in outputs] == [0, 1, 2]
    assert [t.requires_grad for t in outputs] == [True, False, True]
    assert len({id(t.node) for t in outputs}) == 1
    assert list(outputs[0].node.cells[-3:]) == [t.version_cell for t in outputs]
    assert [(z.shape, z.dtype) for z in (made() for made in outputs[0].node.outputs)] == [((2,), float), ((2,), int), ((1,), float)]
    outputs[2].backward(np.array([5.0]))
    np.testing.assert_array_equal(x.grad, [5, 0])


def test_a_random_op_draws_only_the_key_that_it_lacks():
    noise = tinylm.op(lambda x, /, *, key: (x * 0 + key[1], None), random=True)
    tinylm.manual_seed(0)
    assert [noise(1.0).item(), noise(1.0, key=(0, 9)).item(), noise(1.0, key=None).item()] == [0, 9, 1]
    assert current.generator.next_key()[1] == 2


# ---------------------------------------------------------------- derivatives of derivatives

COMPOSED = tinylm.op(
    lambda a, b, k=None, /, *, power=2: (
        (np.asarray(a) * np.asarray(b) ** power * (1 if k is None else k), np.asarray(b) ** 3),
        lambda dy, dz: (
            dy * b**power * (1 if k is None else k),
            power * dy * a * b ** (power - 1) * (1 if k is None else k) + 3 * dz * b * b,
            None,
        ),
    ),
    composed=lambda a, b, k=None, *, power=2: (a * b**power * (1 if k is None else k), b**3),
)


@pytest.mark.parametrize("k", [None, np.array([2, 3])])
@pytest.mark.parametrize("wanted", ["a", "b", "ab"])
def test_a_composed_twin_gives_the_gradients_of_the_arguments_that_need_one(wanted, k):
    a, b = (Tensor(np.array(x), requires_grad=name in wanted) for name, x in (("a", [2.0, 3.0]), ("b", [1.5, -0.5])))
    factor = 1 if k is None else k
    y, z = COMPOSED(a, b, k)
    total = y.sum() + z.sum()
    firsts = dict(zip(wanted, grad(total, [{"a": a, "b": b}[n] for n in wanted], create_graph=True), strict=True))
    expected = {"a": b.data**2 * factor, "b": 2 * a.data * b.data * factor + 3 * b.data**2}
    for name, first in firsts.items():
        np.testing.assert_allclose(first.data, expected[name])
    if "b" in wanted:
        np.testing.assert_allclose(grad(firsts["b"].sum(), b, retain_graph=True).data, 2 * a.data * factor + 6 * b.data)
    if wanted == "ab":
        np.testing.assert_allclose(grad(firsts["a"].sum(), b).data, 2 * b.data * factor)


def test_a_body_that_is_run_again_gets_tensors_for_floats_and_arrays_for_integers(seen):
    @tinylm.op
    def gathered(x, ids, w, /, *, scale=1.0):
        seen.append((type(x), type(ids), type(w), scale))
        return x * ids * w * scale, lambda dy: (dy * ids * w * scale, None, dy * ids * x * scale)

    x, ids, w = Tensor(np.array([2.0, 3.0]), requires_grad=True), Tensor(np.array([1, 4])), np.array([5.0, 6.0])
    g = grad(gathered(x, ids, w, scale=2.0).sum(), x, create_graph=True)
    assert seen == [(np.ndarray, np.ndarray, np.ndarray, 2.0), (Tensor, np.ndarray, Tensor, 2.0)]
    np.testing.assert_array_equal(g.data, [10, 48])


def test_a_kernel_is_counted_once_per_launch_with_settings_by_position_too(monkeypatch):
    monkeypatch.setattr("tinylm.engine.kernels._kernels_allowed", "auto")
    body = tinylm.op(lambda x, /, k=2, *, j=0: (x * k + j, None))
    tinylm.kernel(body, device="cpu")(lambda x, /, k=2, *, j=0: NotImplemented if k == 5 else (x * k + j + 100, None))
    launches.clear()
    x = Tensor(np.ones(1, np.float32))
    assert [body(x).item(), body(x, 3).item(), body(x, 3, j=4).item(), body(x, 5, j=1).item()] == [102, 103, 107, 6]
    assert launches == {("<lambda>", "cpu"): 3}
    assert "<lambda>" not in tinylm.engine.kernels.registry


def test_an_anomaly_names_the_op_and_its_line():
    x = Tensor(np.array([0.0, 1.0]), requires_grad=True)
    with np.errstate(all="ignore"), tinylm.detect_anomaly(), pytest.raises(AnomalyError, match=r"^log \(.*test_op_calls.py:\d+\)"):
        tinylm.log(x)
    with tinylm.detect_anomaly():
        y = (x + 1).sum()
    assert all("test_op_calls.py:" in node.place for node in nodes(y))
    with pytest.raises(AnomalyError, match=r"^multiply \(.*is not to blame"), tinylm.detect_anomaly():
        Tensor(np.array([1.0, np.nan])) * 2


def test_devices_that_differ_are_named_in_order():
    far = [type(f"Far{i}", (), {"dtype": np.dtype(float), "device": type("Device", (), {"id": i}), "__module__": "cupy"})() for i in (1, 0)]
    tensors = [Tensor(np.ones(1)) for _ in far]
    for t, data in zip(tensors, far, strict=True):
        t.data = data
    with pytest.raises(DeviceError, match=r"the arguments are on different devices, cuda:0 and cuda:1$"):
        op(lambda a, b, c, /: (a, None))(*tensors, 2.0)


def test_an_array_given_by_name_keeps_its_place():
    """Without a `/` the arrays may be given by name, and one before them left out."""

    @tinylm.op
    def weighted(x, weight=None, bias=None):
        y = x if weight is None else x * weight
        return (y if bias is None else y + bias), lambda dy: (dy, None, None if bias is None else dy)

    x, bias = np.ones(2), Tensor(np.array([1.0, 2.0]), requires_grad=True)
    np.testing.assert_array_equal(weighted(x, bias=bias).numpy(), [2, 3])
    np.testing.assert_array_equal(weighted(bias=bias, x=x).numpy(), [2, 3])
    np.testing.assert_array_equal(weighted(x, weight=3.0).numpy(), [3, 3])
    weighted(x, bias=bias).backward(np.array([5.0, 7.0]))
    np.testing.assert_array_equal(bias.grad, [5, 7])
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        weighted(bias=bias)
    with pytest.raises(TypeError, match="multiple values for argument 'weight'"):
        weighted(x, 1.0, weight=2.0)
