"""Marks the repaired causal attention."""

import numpy as np

from tinylm import ops
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "A weight is e divided by a sum. Over which positions does that sum run?",
    "Later positions have weight 0, but they are still in the denominator: the weights of a row do not add up to 1.",
    "Mask the scores with -inf before the softmax, and not its result.",
)
THEN = "tinylm/ops/attention.py. The test for a leak is the one that you saw: change a late token, look at early outputs."
BUG = Mistake.of(
    "the mask comes after the softmax",
    "xp.where(seen, xp.matmul(q, xp.swapaxes(k, -1, -2)) * scale, -math.inf)",
    "xp.matmul(q, xp.swapaxes(k, -1, -2)) * scale",
    "weights = e / xp.sum(e, axis=-1, keepdims=True)",
    "weights = e / xp.sum(e, axis=-1, keepdims=True) * seen",
    says="position 0",
)
MISTAKES = (
    Mistake.of(
        "a position does not see itself, but the next one",
        "np.tri(q.shape[-2], dtype=bool)",
        "np.tri(q.shape[-2], k=1, dtype=bool)",
        says="position 2",
    ),
    Mistake.of("a position does not see itself", "np.tri(q.shape[-2], dtype=bool)", "np.tri(q.shape[-2], k=-1, dtype=bool)"),
    Mistake.of("-inf became -1", "-math.inf)", "-1.0)", says="position 0"),
)


def mark(work: Work) -> None:
    function = work.get("causal_attention")
    work.begin("nothing of a later position reaches an earlier one")
    q, k, v = normal(4, 3), normal(4, 3, seed=1), normal(4, 3, seed=2)
    before = function(q, k, v).numpy()
    k, v = k.copy(), v.copy()
    k[-1], v[-1] = 3, -3
    after = function(q, k, v).numpy()
    changed = np.flatnonzero((np.abs(after[:-1] - before[:-1]) > 1e-12).any(axis=-1))
    if changed.size:
        at = int(changed[0])
        text = f"position {at} gives {before[at, 0]:.6f} before and {after[at, 0]:.6f} after"
        raise work.wrong(f"the symptom: the last token is changed, and {text}")
    calls = [call(normal(3, 2), normal(3, 2, seed=1), normal(3, 2, seed=2)), call(*(normal(2, 2, 2, seed=s) for s in range(3)))]
    check_op(work, "causal_attention", calls, expected=lambda q, k, v: ops.scaled_dot_product_attention(q, k, v, causal=True), torch=False)
