"""The checks notice mistakes: every gradient of every op is caught if it is scaled, zeroed or transposed.

Ops whose vjp is None on a sample have no gradient there; an argument without a gradient on any
sample (integers, masks) has nothing to corrupt. Running the ops shows which these are; there is no list.
"""

import functools

import numpy as np
import pytest

import tinylm
from tinylm.engine.kernels import registry
from tinylm.verify import gradcheck, samples_of
from tinylm.verify.op_checks import differentiable

MUTATIONS = {
    "scaled": lambda g: g * 1.001,
    "zeroed": lambda g: g * 0,
    "transposed": lambda g: g.T.reshape(g.shape) if g.ndim > 1 else g[::-1] if g.ndim else -g,
}


def mutant(name, argument, change):
    """Returns the op with one of its gradients changed."""
    record = registry[name]

    @functools.wraps(record.body)
    def body(*args, **settings):
        value, vjp = record.body(*args, **settings)

        def corrupted(*dys):
            grads = list(vjp(*dys))
            if argument < len(grads) and grads[argument] is not None:
                grads[argument] = change(grads[argument])
            return grads

        return value, corrupted

    body.__module__ = __name__  # a user's op: not for the registry
    return tinylm.op(body, sequence=record.sequence)


def usable(name):
    return [s for s in samples_of(name) if s.derivative and differentiable(name, s)]


def gradients_of(name):
    """Returns the positions in which the op gives a gradient on some sample."""
    found = set()
    for sample in usable(name):
        value, vjp = registry[name].body(*sample.args, *[None] * (registry[name].count - len(sample.args)), **sample.settings)
        grads = vjp(*map(np.ones_like, value if isinstance(value, tuple) else (value,)))
        found |= {i for i, g in enumerate(grads) if g is not None}
    return sorted(found)


CASES = [(name, i, mutation) for name in registry for i in gradients_of(name) for mutation in MUTATIONS]


@pytest.mark.parametrize(("name", "argument", "mutation"), CASES)
def test_a_wrong_gradient_is_caught(name, argument, mutation):
    wrong = mutant(name, argument, MUTATIONS[mutation])
    assert any(not gradcheck(wrong, *s.args, **s.settings).ok for s in usable(name))


@pytest.mark.parametrize("name", sorted({name for name, _, _ in CASES}))
def test_the_harness_itself_changes_nothing(name):
    sample = usable(name)[0]
    assert gradcheck(mutant(name, 0, lambda g: g), *sample.args, **sample.settings).ok


def test_every_op_with_a_derivative_is_mutated():
    mutated = {name for name, _, _ in CASES}
    assert mutated == {name for name in registry if usable(name)}
    assert len(mutated) > 40
