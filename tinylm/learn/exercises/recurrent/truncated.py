"""Truncated backpropagation through time: training on a text that never ends.

A recurrent model reads the text in blocks. The state is carried from one block to the next, so that the model remembers;
the gradient is not: it stops at the block's beginning, or the tape would grow with every block and each would take longer than
the last. For each block of `size` steps (the last may be shorter):
    1. run step(x[t], state) -> (loss of step t, new state) over the block, and add the losses up;
    2. call backward() on the block's loss: gradients add up in the parameters' .grad;
    3. cut the state off its past: state.detach() is a tensor with the same numbers and no tape.
Return the list of the blocks' losses as numbers (loss.item()).
"""


def truncated(step, x, state, size):
    """Fills .grad of what `step` uses and returns the blocks' losses.  x (T, ...); state: a tensor."""
    # >>> one loop over blocks, one within a block
    losses = []
    for start in range(0, len(x), size):
        total, state = step(x[start], state)
        for t in range(start + 1, min(start + size, len(x))):
            loss, state = step(x[t], state)
            total = total + loss
        total.backward()
        state = state.detach()
        losses.append(total.item())
    return losses
    # <<<
