"""Functions that lose digits inside: their right gradients are not called wrong, and wrong ones are not called right."""

import numpy as np
import pytest
from scaled_functions import spoiled

import tinylm
from tinylm.verify import gradcheck

FUNCTIONS = {
    "gelu": (tinylm.gelu, [-4.503428306201147, -5.723694244739356, -6.270984882923691, -7.405699969800303, -8.363038312678546]),
    "1 + erf": (lambda x: 1 + tinylm.erf(x), [-3.2881875609654188]),
    "x (1 + tanh)": (lambda x: x * (1 + tinylm.tanh(x)), [-6.242637987642878, -7.524102206700429, -17.231986033310754]),
    "x log(1 + e^x)": (lambda x: x * tinylm.log(1 + tinylm.exp(x)), [-23.53826101276774, -24.569867187914667]),
    "x (1 - e^-xx)": (lambda x: x * (1 - tinylm.exp(-x * x * 1e-6)), [-2.3013034084680273, -4.019818105422145, -6.755335945538657]),
    "x ((1 + x) - 1)": (lambda x: x * ((x * 1e-8 + 1) - 1), [-4.85667829830368, -6.566535292778147, -8.858102095198193]),
}
CASES = [(name, x) for name, (_, points) in FUNCTIONS.items() for x in points]


@pytest.mark.parametrize(("name", "x"), CASES)
def test_a_right_gradient_is_not_called_wrong(name, x):
    report = gradcheck(FUNCTIONS[name][0], np.array([x]))
    assert report.verdict in ("ok", "undecided"), report


@pytest.mark.parametrize(("name", "x"), CASES)
@pytest.mark.parametrize("mistake", ["sign", "factor"])
def test_a_wrong_gradient_is_not_called_right(name, x, mistake):
    wrong = spoiled(mistake, 1)
    report = gradcheck(lambda x: FUNCTIONS[name][0](wrong(x)), np.array([x]))
    assert not report.ok
    if name == "x (1 - e^-xx)":
        assert report.verdict == "wrong", report


@pytest.mark.parametrize("x", [[0.7, -1.3, 2.1], [3e-5, 123.4], [1e-9, 2e9]])
def test_float32_in_a_part_of_a_vjp(x):
    """A gradient with the digits of float32 is refused only if an op is seen to compute in it."""

    @tinylm.op
    def cubed(x, /):
        return x * x * x, lambda dy: (dy * 3 * (x * x).astype(np.float32),)

    report = gradcheck(cubed, np.array(x))
    assert report.verdict == "wrong"
    assert "a part of the vjp of cubed" in str(report) or "its vjp computes in float32" in str(report)

    @tinylm.op
    def nearly(x, /):
        return x * x * x, lambda dy: (dy * 3 * x * x * (1 + 2e-7),)

    assert gradcheck(nearly, np.array(x)).ok, "within the tolerance, and no float32 seen"
