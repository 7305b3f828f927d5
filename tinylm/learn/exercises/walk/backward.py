"""backward: the whole of backpropagation, over a tape of your own.

A Value holds an array, the Values that it was made from (parents) and a vjp. These links are the tape. Every Value also has
an age, and a result is always younger than its parents. backward(y) must fill v.grad = ∂y/∂v for every v that led to y:
    1. y.grad is 1 (np.ones_like(y.data)).
    2. Take the youngest Value that has received a gradient and has not been handled. Whatever uses it is younger and has been
       handled, so its grad is complete.
    3. Unless it is a leaf (vjp is None), node.vjp(node.grad) gives one gradient for each parent: add each to what the parent
       has so far (None at first).   4. Go on with 2 until nothing is left.
No recursion: a chain of 20,000 Values must work. Each vjp is called once.
"""

import itertools

import numpy as np

clock = itertools.count()


class Value:
    """An array, and how it was made."""

    def __init__(self, data, parents=(), vjp=None):
        self.data, self.parents, self.vjp = data, parents, vjp
        self.grad = None
        self.age = next(clock)


def add(a, b):
    return Value(a.data + b.data, (a, b), lambda dy: (dy, dy))


def multiply(a, b):
    return Value(a.data * b.data, (a, b), lambda dy: (dy * b.data, dy * a.data))


def exp(a):
    y = np.exp(a.data)
    return Value(y, (a,), lambda dy: (dy * y,))


def backward(y):
    """Fills grad of y and of every Value that led to it."""
    # >>> a dict from age to Value is all you need to keep: pending.pop(max(pending)) takes the youngest
    y.grad = np.ones_like(y.data)
    pending = {y.age: y}
    while pending:
        node = pending.pop(max(pending))
        if node.vjp is None:
            continue
        for parent, g in zip(node.parents, node.vjp(node.grad), strict=True):
            parent.grad = g if parent.grad is None else parent.grad + g
            pending[parent.age] = parent
    # <<<
