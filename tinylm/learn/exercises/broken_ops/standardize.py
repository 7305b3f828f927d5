"""Bug: "In float64 all my tests pass. In float32, on real data, it is noise."

Every row of x is moved to mean 0 and scaled to variance 1, y = (x - mean)/√(var + eps), as in layer norm. The variance is computed
in one pass, by a formula that is in every textbook. Real data is not centred: temperatures in kelvin, years, pixel
values. There, with float32, y is far from what float64 gives, or not a number at all.

Find the mistake (it is not in the gradient) and repair it.
"""

import tinylm


@tinylm.op
def standardize(x, /, *, eps=1e-5):
    """y = (x - mean)/√(var + eps) over the last axis."""
    xp = tinylm.array_module(x)
    mean = xp.mean(x, axis=-1, keepdims=True)
    var = xp.mean((x - mean) * (x - mean), axis=-1, keepdims=True)
    r = 1 / xp.sqrt(var + eps)
    y = (x - mean) * r

    def vjp(dy):
        return (r * (dy - xp.mean(dy, axis=-1, keepdims=True) - y * xp.mean(dy * y, axis=-1, keepdims=True)),)

    return y, vjp
