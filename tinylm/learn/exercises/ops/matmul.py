"""The matrix product y = a b, alone or in batches.

    y_ij = Σ_k a_ik b_kj        a (..., n, k), b (..., k, m) -> y (..., n, m), with the same leading axes in both

Element a_ik takes part in all y_ij of row i, with the factor b_kj. By the chain rule
    da_ik = Σ_j dy_ij b_kj,     db_kj = Σ_i a_ik dy_ij.
Both are matrix products again. Which factor must be transposed? The shapes leave only one way.

xp is "the NumPy of these arrays": NumPy for arrays, tinylm's own ops for tensors, so that the vjp can be differentiated
again. Take functions from it: xp.matmul(a, b), and xp.swapaxes(a, -1, -2) for the transposed matrices.
"""

import tinylm


@tinylm.op
def matmul(a, b, /):
    """y = a b.  a (..., n, k), b (..., k, m) -> y (..., n, m)."""
    xp = tinylm.array_module(a, b)
    # >>> compute y, define vjp(dy), return y, vjp
    y = xp.matmul(a, b)

    def vjp(dy):
        return xp.matmul(dy, xp.swapaxes(b, -1, -2)), xp.matmul(xp.swapaxes(a, -1, -2), dy)

    return y, vjp
    # <<<
