"""What a vjp may return, and which vjps tinylm.grad runs."""

import numpy as np
import pytest

import tinylm
from tinylm import Tensor
from tinylm.errors import ShapeError


def leaf(rng, *shape):
    return Tensor(rng.standard_normal(shape), requires_grad=True)


@pytest.mark.parametrize("returned", [np.ones(1), "a", {0: np.ones(1)}, iter([np.ones(1)])])
def test_a_vjp_that_returns_no_tuple_is_refused_even_if_its_length_would_fit(returned):
    @tinylm.op
    def one(x, /):
        return x * 1.0, lambda dy: returned

    x = Tensor(np.ones(1), requires_grad=True)
    with pytest.raises(ShapeError, match=f"the vjp of one .*returned {type(returned).__name__}, not a tuple of gradients"):
        one(x).backward(np.ones(1))


def test_grad_runs_no_vjp_that_leads_nowhere():
    """Only the ops between the output and the wanted tensors take part, intermediate ones too."""
    rng, ran = np.random.default_rng(0), []

    @tinylm.op
    def noted(x, /, *, name):
        return x * 2, lambda dy: (ran.append(name), (dy * 2,))[1]

    a, b = leaf(rng, 3), leaf(rng, 3)
    for wanted, expected in ((a, ["a2", "a1"]), (b, ["b"])):
        ran.clear()
        y = noted(noted(a, name="a1"), name="a2") * noted(b, name="b")
        tinylm.grad(y, wanted, np.ones(3))
        assert ran == expected
    ran.clear()
    middle = noted(a, name="a1")
    tinylm.grad(noted(middle, name="a2") * noted(b, name="b"), middle, np.ones(3))
    assert ran == ["a2"]
