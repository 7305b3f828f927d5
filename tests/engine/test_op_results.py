"""What the body of an op returns: (value, vjp), and an error that names the op for anything else."""

import collections
import contextlib
import re

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.engine.grad import grad
from tinylm.engine.kernels import kernel
from tinylm.errors import AutogradError
from tinylm.verify import gradcheck

FORGETFUL = {
    "an array": (lambda x: x * 2, "ndarray"),
    "a number": (lambda x: float(x.sum()), "float"),
    "a NumPy scalar": (lambda x: x.sum(), "float64"),
    "nothing": (lambda x: None, "NoneType"),
    "one thing": (lambda x: (x * 2,), "tuple"),
    "two arrays": (lambda x: (x * 2, x * 3), "tuple"),
    "two arrays in a list": (lambda x: [x * 2, x * 3], "list"),
    "three things": (lambda x: (x, x, lambda dy: (dy,)), "tuple"),
    "only the vjp": (lambda x: lambda dy: (dy,), "function"),
    "a tensor": (lambda x: (Tensor(x) * 2, lambda dy: (dy * 2,)), "Tensor as a value"),
    "a tensor among several": (lambda x: ((x, Tensor(x)), lambda dy, _: (dy,)), "Tensor as a value"),
    "no value": (lambda x: (None, lambda dy: (dy,)), "NoneType as a value"),
}


@pytest.mark.parametrize("what", FORGETFUL)
@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("how", ["plain", "kernel", "profile", "without a gradient"])
def test_a_body_that_forgets_its_vjp(what, size, how):
    """Two elements used to be taken for a value and a vjp."""
    body, returned = FORGETFUL[what]

    def forgetful(x, /):
        return body(x)

    function = tinylm.op(forgetful)
    if how == "kernel":
        kernel(function, device="cpu", dtypes=("float64",))(forgetful)
    x = Tensor(np.ones(size), requires_grad=how != "without a gradient")
    with (
        tinylm.profile() if how == "profile" else contextlib.nullcontext(),
        pytest.raises(AutogradError, match=re.escape(f"the body of forgetful returned {returned}, expected (value, vjp)")),
    ):
        function(x)


def test_a_body_that_forgets_its_vjp_when_it_runs_again():
    @tinylm.op
    def forgetful(x, /):
        return x * 2.0 if isinstance(x, Tensor) else (x * 2.0, lambda dy: (dy * 2.0,))

    x = Tensor(np.ones(2), requires_grad=True)
    with pytest.raises(AutogradError, match="the body of forgetful returned Tensor, expected"):
        grad(forgetful(x), x, np.ones(2), create_graph=True)


def test_value_and_vjp_in_a_list_or_a_named_tuple():
    pair = collections.namedtuple("pair", "value vjp")
    for make in (lambda y, vjp: [y, vjp], pair):
        doubled = tinylm.op(lambda x, *, make=make: make(x * 2, lambda dy: (dy * 2,)))
        assert gradcheck(doubled, np.array([0.5, -1.5])).ok
