"""Bug: "With a larger batch I need a smaller learning rate, and the loss is a mean!"

The loss is the mean over all elements of x. Its value is right. But the gradient gets longer with every row that
is added to the batch, so that the learning rate has to be divided by the size of the batch.

Find the mistake and repair it. `learn check` shows the symptom as long as it is there.
"""

import tinylm


@tinylm.op
def mean(x, /):
    """The mean of all elements, a scalar."""
    xp = tinylm.array_module(x)

    def vjp(dy):
        return (xp.ones_like(x) * dy / x.size,)

    return xp.sum(x) / x.size, vjp
