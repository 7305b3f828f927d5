"""Bug: "relu alone passes every check. In my residual network the gradients are wrong."

The gradient of relu(x) is dy where x is positive and 0 elsewhere, and for y = relu(x) that is what comes out. For
y = x + relu(x), a residual connection, the gradient of a negative x should be dy (through the sum) + 0. It is 0.

Find the mistake and repair it.
"""

import tinylm


@tinylm.op
def relu(x, /):
    """y = max(x, 0), element by element."""
    xp = tinylm.array_module(x)

    def vjp(dy):
        return (dy * (x > 0),)

    return xp.maximum(x, 0), vjp
