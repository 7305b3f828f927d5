"""Bug: "The gradients are right. Second derivatives (a Hessian, a gradient penalty) are wrong."

y = x σ(x), the activation of Llama. First derivatives agree with finite differences in all digits. A Hessian-vector product does
not: with create_graph=True the engine runs this body again, on tensors instead of arrays, so that the vjp itself is
recorded. Whatever the body does then with something that is no tensor is a constant for the second derivative.

Find the mistake and repair it.
"""

import tinylm


@tinylm.op
def silu(x, /):
    """y = x σ(x), element by element."""
    xp = tinylm.array_module(x)
    s = xp.sigmoid(x)

    def vjp(dy):
        return (dy * (s + x * s * (1 - s)),)

    return x * s, vjp
