"""Marks the schedule."""

import math

import numpy as np

from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.work import Work
from tinylm.optim.schedules import WarmupCosine

HINTS = (
    "Three returns, one per line of the task. d runs from 0 (at warmup) to 1 (at steps).",
    "Ask for step < warmup and for step >= steps first: between the two the division by steps - warmup is never one by zero.",
)
THEN = "tinylm/optim/schedules.py has this one, a linear one, and that of the first Transformer."
MISTAKES = (
    Mistake.of("the first step is lost", "lr * (step + 1) / (warmup + 1)", "lr * step / warmup", says="step 0 has the rate 0"),
    Mistake.of(
        "it rises again after the end",
        "    if step >= steps:\n        return min_lr\n",
        "",
        says="after the end",
    ),
    Mistake.of("it falls to zero, not to min_lr", "min_lr + (lr - min_lr) *", "lr *", says="min_lr"),
    Mistake.of("a whole cosine", "math.pi * done", "2 * math.pi * done", says="half a cosine"),
    Mistake.of(
        "the warmup is not subtracted", "(step - warmup) / (steps - warmup)", "step / steps", says="counts from the end of the warmup"
    ),
)


def mark(work: Work) -> None:
    schedule = work.get("schedule")
    lr, low, warmup, steps = 0.5, 0.05, 4, 20
    right = WarmupCosine(lr, low, warmup, steps)

    def cosine(d: float, bottom: float = low) -> float:
        return bottom + (lr - bottom) * (1 + math.cos(math.pi * d)) / 2

    spans = [("the warmup", range(warmup)), ("the cosine", range(warmup, steps)), ("after the end", range(steps, steps + 12))]
    for name, span in spans:
        work.begin(name)
        for step in span:
            d = (step - warmup) / (steps - warmup)
            causes = {
                "step 0 has the rate 0, and is lost: (step + 1)/(warmup + 1)": lr * step / warmup,
                "it falls to zero, and not to min_lr": cosine(min(d, 1), 0.0),
                "it rises again after the end: d goes on growing": cosine(d),
                "this is a whole cosine: half a cosine has π d": cosine(2 * d),
                "d counts from the end of the warmup": cosine(step / steps),
            }
            compare(
                work,
                f"the rate of step {step} ({lr=}, min_lr={low}, {warmup=}, {steps=})",
                schedule(step, lr, low, warmup, steps),
                right(step),
                causes=causes,
                where=schedule,
            )
    work.begin("no warmup, and a warmup as long as the schedule")
    compare(work, "the rate of step 0 without warmup", schedule(0, lr, low, 0, 9), np.array(lr), where=schedule)
    compare(
        work,
        "the rate at the end of a warmup of 9 steps out of 9",
        schedule(8, lr, low, 9, 9),
        WarmupCosine(lr, low, 9, 9)(8),
        where=schedule,
    )
    schedule(9, lr, low, 9, 9)
