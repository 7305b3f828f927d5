"""Marks the repaired loop of a loss that stays at log V."""

import math

import numpy as np

from tinylm.learn.exercise import Mistake
from tinylm.learn.exercises.broken_loops import stuck
from tinylm.learn.work import Work

HINTS = (
    "Print the norm of head.weight.grad just before optimizer.step.",
    "zero_grad() throws the gradients away. What does step() have to work with?",
    "The order of a step: zero_grad, loss, backward, step.",
)
THEN = "tinylm/train/loop.py tells a training step in order, and what is due after it."
BUG = Mistake.of(
    "the gradients are thrown away before the update",
    "        optimizer.zero_grad()\n",
    "",
    "        loss.backward()\n",
    "        loss.backward()\n        optimizer.zero_grad()\n",
    says="log V",
)
MISTAKES = (
    Mistake.of("gradients add up over all steps", "        optimizer.zero_grad()\n", "", says="add up"),
    Mistake.of("the gradient stops at the head", "tinylm.tanh(embedding(IDS[:-1]))", "tinylm.tanh(embedding(IDS[:-1])).detach()"),
    Mistake.of("the next token is not shifted", "tinylm.cross_entropy(logits, IDS[1:])", "tinylm.cross_entropy(logits, IDS[:-1])"),
    Mistake.of("another learning rate instead", "lr=0.05", "lr=0.5", "        optimizer.zero_grad()\n", ""),
)


def mark(work: Work) -> None:
    train = work.get("train")
    work.begin("the loss leaves log V")
    losses, top = train(), math.log(len(stuck.VOCABULARY))
    work.expect(len(losses) == 60, f"train() returns {len(losses)} losses: expected 60", "", train)
    text = (
        f"the symptom: the loss is {losses[0]:.4f} at first, {losses[30]:.4f} after 30 steps and "
        f"{losses[-1]:.4f} after 60; log V = {top:.4f}"
    )
    work.expect(losses[-1] < 0.8 * top, text)
    work.begin("it falls as it should")
    right = stuck.train()
    cause = "gradients add up from step to step, if nothing clears them" if abs(losses[1] - right[1]) < 1e-5 else ""
    text = f"the loss is {losses[-1]:.4f} after 60 steps; with this seed and everything right it is {right[-1]:.4f}"
    work.expect(bool(np.allclose(losses, right, rtol=1e-4)), text, cause, train)
