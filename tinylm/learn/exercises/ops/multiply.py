"""The product y = a b: your first op.

Somewhere after y the computation ends in one number, the loss L. The backward pass gives your op
    dy = ∂L/∂y, an array of y's shape, the cotangent of y,
and expects da = ∂L/∂a and db = ∂L/∂b. The function from dy to (da, db) is the op's vjp. The chain rule, for each element:
    da = dy ∂y/∂a,   db = dy ∂y/∂b.
a and b have the same shape here. What is ∂y/∂a for y = a b?

Compute y, define a function vjp(dy) that returns the tuple (da, db), and return the pair (y, vjp).
"""

import tinylm


@tinylm.op
def multiply(a, b, /):
    """y = a b, element by element.  a, b of one shape -> y of that shape."""
    # >>> compute y, define vjp(dy), return y, vjp
    y = a * b

    def vjp(dy):
        return dy * b, dy * a

    return y, vjp
    # <<<
