"""Marks the repaired loop that met a NaN."""

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.learn.exercise import Mistake
from tinylm.learn.exercises.broken_loops import nan_at_300
from tinylm.learn.work import Work

HINTS = (
    "Print batch(300). What is the mean over no positions?",
    "0/0 is NaN, and one NaN in a gradient makes every weight that it touches NaN. Repair the loss, not the NaN.",
    "Divide by the number of kept positions, but by at least 1.",
)
THEN = "tinylm/train/README.md: a run stops at the step, names the op and keeps what repeats it: tinylm replay."
BUG = Mistake.of("the mean over no positions", "/ max(float(kept.sum()), 1.0)", "/ kept.sum()", says="the symptom")
MISTAKES = (
    Mistake.of(
        "the number is repaired, not the gradient",
        "/ max(float(kept.sum()), 1.0)",
        "/ kept.sum()",
        "losses.append(loss.item())",
        "losses.append(np.nan_to_num(loss.item()).item())",
        says="the weights",
    ),
    Mistake.of("a mean over all positions", "/ max(float(kept.sum()), 1.0)", "/ len(ids)", says="left out"),
    Mistake.of("padding counts", "(targets != -1).astype(np.float32)", "np.ones(len(ids), np.float32)", says="left out"),
    Mistake.of(
        "the step is left out, and the last loss is shown again",
        "        loss.backward()\n        optimizer.step()\n        losses.append(loss.item())",
        "        if step != 300:\n            loss.backward(), optimizer.step()\n        losses.append(loss.item() or losses[-1])",
        says="there is nothing to learn",
    ),
    Mistake.of("it stops before", "steps=320", "steps=300", says="320 losses"),
)


def mark(work: Work) -> None:
    train, loss_of = work.get("train"), work.get("loss_of")
    work.begin("the loss is a number in all 320 steps")
    losses, table = train()
    work.expect(len(losses) == 320, f"train() returns {len(losses)} losses: expected 320 losses", "", train)
    bad = [step for step, loss in enumerate(losses) if not np.isfinite(loss)]
    if bad:
        before = f"{losses[bad[0] - 1]:.4f} at step {bad[0] - 1}, and " if bad[0] else ""
        raise work.wrong(f"the symptom: the loss is {before}NaN in step {bad[0]} and {len(bad) - 1} more")
    work.expect(bool(np.isfinite(table).all()), "the losses are numbers, but the weights are NaN at the end", "", train)
    work.begin("padding is left out, and only padding")
    scores = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    for ids, targets in (nan_at_300.batch(step) for step in (1, 2, 5)):
        mine, right = (f(Tensor(scores), ids, targets).item() for f in (loss_of, nan_at_300.loss_of))
        text = f"for targets {targets.tolist()} the loss is {mine:.5f}: expected {right:.5f}"
        work.expect(abs(mine - right) < 1e-5, text, "positions without a target must be left out, of the sum and of the count", loss_of)
    work.begin("the empty batch changes nothing")
    work.expect(losses[300] == 0, f"the loss of step 300 is {losses[300]:.4f}: expected 0, there is nothing to learn", "", train)
    _, right_table = nan_at_300.train()
    text = f"the scores at the end differ from those of the right loop by up to {np.abs(table - right_table).max():.2g}"
    work.expect(bool(np.allclose(table, right_table, atol=1e-4)), text, "", train)
