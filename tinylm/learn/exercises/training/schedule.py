"""A schedule: the learning rate rises, then falls along half a cosine.

    warmup:   step < warmup           lr (step + 1)/(warmup + 1)         a straight line; step counts from 0
    cosine:   warmup <= step < steps  min_lr + (lr - min_lr) (1 + cos(π d))/2,    d = (step - warmup)/(steps - warmup)
    after:    step >= steps           min_lr

At step = warmup it is lr (unless the schedule ends there), at the end min_lr. The first step must not have the rate 0
(it would be lost), and after the end the cosine must not rise again (Loshchilov & Hutter 2016).
"""

import math


def schedule(step, lr, min_lr, warmup, steps):
    """Returns the learning rate of a step, counted from 0."""
    # >>> three cases
    if step < warmup:
        return lr * (step + 1) / (warmup + 1)
    if step >= steps:
        return min_lr
    done = (step - warmup) / (steps - warmup)
    return min_lr + (lr - min_lr) * (1 + math.cos(math.pi * done)) / 2
    # <<<
