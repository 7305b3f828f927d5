"""Bug: "Training goes well for a while, then the loss explodes."

tanh is flat far from 0, so that no gradient should pass there. With small inputs everything is fine (at 0.1 the gradient is
right in three digits), but as soon as the activations grow, the gradients become enormous, with the wrong sign.

Find the mistake and repair it.
"""

import tinylm


@tinylm.op
def tanh(x, /):
    """y = tanh(x), element by element."""
    xp = tinylm.array_module(x)
    y = xp.tanh(x)

    def vjp(dy):
        return (dy * (1 - y * y),)

    return y, vjp
