"""The checker itself: it passes right gradients, rejects wrong ones, and says where and why."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn
from tinylm.engine.arrays import array_module, constant
from tinylm.errors import ConfigError
from tinylm.verify import gradcheck

BOTH = pytest.mark.parametrize("mode", ["full", "directions"])


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def cube(factor=1.0, second=None):
    """Returns x³ with `factor` times the right derivative; with `second`, only the derivative of the derivative is wrong."""

    @tinylm.op
    def cubed(x, /):
        def vjp(dy):
            slope = 3 * x * x if second is None else 3 * x * constant(x)
            return (dy * slope * factor,)

        return x * x * x, vjp

    return cubed


@BOTH
@pytest.mark.parametrize("order", [1, 2])
def test_right_gradient_passes(rng, mode, order):
    report = gradcheck(cube(), rng.standard_normal((2, 3)), mode=mode, order=order)
    assert report.ok
    assert report.error < 1e-8
    assert str(report).startswith(f"cubed ({mode}, order {order}): ok")


@BOTH
@pytest.mark.parametrize("factor", [1.001, 1.00001, 0.0, -1.0, float("nan")])
def test_wrong_gradient_is_named(rng, mode, factor):
    report = gradcheck(cube(factor), rng.standard_normal((2, 3)), mode=mode)
    assert not report.ok
    assert "cubed" in str(report)
    assert "argument 0" in str(report)
    assert "non-differentiable" not in str(report)


def test_the_worst_element_and_both_values_are_reported():
    @tinylm.op
    def doubled(x, /):
        return 2 * x, lambda dy: (dy * np.array([2.0, 2.0, 5.0]),)

    text = str(gradcheck(doubled, np.ones(3)))
    assert "worst at [2], output element 2: 5 by the tape, 2" in text
    assert "relative error 8.66e-01" in text


@BOTH
def test_wrong_second_order_is_caught_where_the_first_is_right(rng, mode):
    x = rng.standard_normal((2, 3))
    assert gradcheck(cube(second="wrong"), x, mode=mode).ok
    report = gradcheck(cube(second="wrong"), x, mode=mode, order=2)
    assert [row.name for row in report.failures] == ["x"]  # and not the cotangent, in which it is linear


@BOTH
def test_each_argument_has_its_row(rng, mode):
    @tinylm.op
    def product(a, b, /):
        return a * b, lambda dy: (dy * b, dy * a * 1.01)

    report = gradcheck(product, rng.standard_normal(4), rng.standard_normal(4), mode=mode)
    assert [row.name for row in report.failures] == ["b"]


def test_other_arguments_pass_through_and_settings_reach_the_function(rng):
    seen = []

    def fn(ids, table, mask, none, number, *, scale):
        seen.append((ids.dtype.kind, mask.dtype.kind, none, number))
        return tinylm.where(mask, tinylm.embedding(ids, table) * number, 0.0) * scale

    ids, mask = np.array([[0, 2], [2, 1]]), np.array([[[True], [False]]])
    assert gradcheck(fn, ids, rng.standard_normal((3, 2)), mask, None, 2.0, scale=3.0).ok
    assert set(seen) == {("i", "b", None, 2.0)}


@BOTH
def test_several_outputs_are_checked_together_and_integers_left_out(rng, mode):
    @tinylm.op
    def both(x, /):
        return (x * 2, x * 3), lambda da, db: (2 * da + 3 * db,)

    @tinylm.op
    def second_forgotten(x, /):
        return (x * 2, x * 3), lambda da, db: (2 * da,)

    x = rng.standard_normal(3)
    assert gradcheck(lambda t: (*both(t), tinylm.argmax(t)), x, mode=mode).ok
    assert not gradcheck(second_forgotten, x, mode=mode).ok


def test_a_sequence_names_its_members(rng):
    @tinylm.op(sequence=True)
    def total(arrays, /):
        return sum(arrays), lambda dy: [dy, 2 * dy]

    report = gradcheck(total, [rng.standard_normal(3), rng.standard_normal(3)])
    assert [row.name for row in report.failures] == ["arrays[1]"]


@pytest.mark.parametrize("order", [1, 2])
def test_parameters_that_a_model_captures(rng, order):
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Dropout(0.5), nn.Linear(4, 2)).to(dtype="float64")
    x = Tensor(rng.standard_normal((5, 3)))
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    report = gradcheck(lambda *_: model(x), *model.parameters(), order=order)
    assert report.ok, report
    assert len(report.rows) == 6 + (order == 2)
    for name, p in model.named_parameters():
        np.testing.assert_array_equal(p.data, before[name])
        assert p.grad is None
        assert p.requires_grad


def test_inputs_are_left_as_they_were(rng):
    x = rng.standard_normal((3, 2)).astype(np.float32)
    x.flags.writeable = False
    fixed = Tensor(rng.standard_normal((3, 2)))
    assert gradcheck(tinylm.multiply, x, fixed).ok
    assert not fixed.requires_grad


def test_large_inputs_take_directions(rng):
    assert "(full" in str(gradcheck(tinylm.exp, rng.standard_normal(10)))
    report = gradcheck(tinylm.exp, rng.standard_normal((40, 50)))
    assert "(directions" in str(report)
    assert report.ok


def test_a_function_that_does_not_depend_on_its_argument(rng):
    assert gradcheck(lambda x: Tensor(np.ones(2)), rng.standard_normal(3)).ok
    x = rng.standard_normal(3)
    assert not gradcheck(lambda t: tinylm.exp(t.detach()), x).ok


def test_random_ops_repeat_their_mask(rng):
    assert gradcheck(lambda x: tinylm.dropout(x, 0.5) * x, rng.standard_normal(40)).ok


def test_the_tolerance_can_be_set(rng):
    assert gradcheck(cube(1.001), rng.standard_normal(3), tolerance=0.01).ok


@pytest.mark.parametrize(
    ("arrays", "settings", "message"),
    [
        ((np.ones(2),), {"mode": "fast"}, "mode 'fast'"),
        ((np.ones(2),), {"order": 3}, "order 3"),
        ((np.ones(2),), {"taped_in": "float16"}, "taped_in 'float16'"),
        ((np.ones(2),), {"taped_in": "float32", "order": 2}, "taped_in 'float32'"),
        ((np.ones(2, int),), {}, "no floating array"),
        ((Tensor(np.ones(2, np.float32)),), {}, "x is a tensor of dtype float32"),
    ],
)
def test_wrong_use_is_refused(arrays, settings, message):
    with pytest.raises(ConfigError, match=message):
        gradcheck(tinylm.exp, *arrays, **settings)


def test_a_function_without_floating_output_is_refused():
    with pytest.raises(ConfigError, match="no floating tensor"):
        gradcheck(tinylm.argmax, np.ones(3))


def test_it_works_for_ops_with_their_own_array_modules(rng):
    @tinylm.op
    def logistic(x, /):
        xp = array_module(x)
        y = 1 / (1 + xp.exp(-x))
        return y, lambda dy: (dy * y * (1 - y),)

    for order in (1, 2):
        assert gradcheck(logistic, rng.standard_normal((3, 3)), order=order).ok
