"""Tensor's operators and methods are the ops of their names, and compute what NumPy's do."""

import operator

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, ops

A = np.array([[0.5, 2.0, 1.5], [3.0, 1.0, 2.5]])
B = np.array([[2.0, 2.0, 0.25], [1.0, 4.0, 2.5]])
METHODS = {
    "all": lambda x: x.all(axis=0), "any": lambda x: x.any(axis=0), "argmin": lambda x: x.argmin(axis=1, keepdims=True),
    "argsort": lambda x: x.argsort(axis=0), "cumsum": lambda x: x.cumsum(axis=1), "take": lambda x: x.take(np.array([2, 0]), axis=1),
    "flatten": lambda x: x.flatten(), "repeat": lambda x: x.repeat(2, axis=1),
    "prod": lambda x: x.prod(axis=0), "round": lambda x: x.round(), "std": lambda x: x.std(axis=1, ddof=1),
    "argmax": lambda x: x.argmax(axis=1), "astype": lambda x: x.astype("float32"), "broadcast_to": lambda x: x.broadcast_to((2, 2, 3)),
    "clip": lambda x: x.clip(1, 2), "dropout": lambda x: x.dropout(0.0), "exp": lambda x: x.exp(), "gelu": lambda x: x.gelu(),
    "expand_dims": lambda x: x.expand_dims(1), "log": lambda x: x.log(), "log_softmax": lambda x: x.log_softmax(axis=0),
    "logsumexp": lambda x: x.logsumexp(axis=0), "max": lambda x: x.max(axis=0), "mean": lambda x: x.mean(axis=0),
    "min": lambda x: x.min(axis=0), "relu": lambda x: x.relu(), "sigmoid": lambda x: x.sigmoid(), "silu": lambda x: x.silu(),
    "softmax": lambda x: x.softmax(axis=0), "sqrt": lambda x: x.sqrt(), "squeeze": lambda x: x.squeeze(), "sum": lambda x: x.sum(axis=0),
    "swapaxes": lambda x: x.swapaxes(0, 1), "tanh": lambda x: x.tanh(), "var": lambda x: x.var(axis=0),
}  # fmt: skip
OPERATORS = ["add", "sub", "mul", "truediv", "pow", "mod", "floordiv", "eq", "ne", "lt", "le", "gt", "ge"]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_the_op_of_its_name(name: str) -> None:
    assert getattr(Tensor, name) is getattr(ops, name)
    found = METHODS[name](Tensor(A)).numpy()
    if hasattr(A, name) and name != "dropout":
        np.testing.assert_allclose(found, METHODS[name](A), rtol=1e-7)


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_in_either_order(name: str) -> None:
    apply = getattr(operator, name)
    for a, b in [(Tensor(A), Tensor(B)), (Tensor(A), B), (A, Tensor(B)), (Tensor(A), 2.0), (2.0, Tensor(B))]:
        arrays = [x.numpy() if isinstance(x, Tensor) else x for x in (a, b)]
        np.testing.assert_array_equal(np.asarray(apply(a, b).numpy()), apply(*arrays))


def test_the_other_operators() -> None:
    x, c = Tensor(A), np.arange(6.0).reshape(3, 2)
    np.testing.assert_array_equal((-x).numpy(), -A)
    np.testing.assert_array_equal(abs(-x).numpy(), A)
    np.testing.assert_allclose((x @ c).numpy(), A @ c, rtol=1e-15)
    np.testing.assert_allclose((c @ x).numpy(), c @ A, rtol=1e-15)
    np.testing.assert_array_equal(x[1, ::2].numpy(), A[1, ::2])
    np.testing.assert_array_equal(x.T.numpy(), A.T)
    np.testing.assert_array_equal(x.transpose(1, 0).numpy(), A.T)
    np.testing.assert_array_equal(x.transpose((1, 0)).numpy(), A.T)
    np.testing.assert_array_equal(x.reshape(3, 2).numpy(), A.reshape(3, 2))
    np.testing.assert_array_equal(x.reshape((3, -1)).numpy(), A.reshape(3, 2))
    assert [part.shape for part in x.split(3, axis=1)] == [(2, 1)] * 3
    assert tinylm.expand_dims(x, 0).squeeze(0).shape == (2, 3)
