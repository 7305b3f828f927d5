"""Marks cross-entropy."""

import numpy as np

from tinylm import ops
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    (
        "Three lines give the value: subtract each row's maximum; "
        "subtract the logarithm of the sum of exponentials; take the mean at the targets."
    ),
    "log_p[rows, targets] picks the log-probability of the right token of each row, with rows = 0, 1, ..., N-1.",
    "onehot = np.zeros(logits.shape, logits.dtype); onehot[rows, targets] = 1. The vjp returns dy * (xp.exp(log_p) - onehot) / N, None.",
)
THEN = "tinylm/ops/losses.py: `cross_entropy` computes the probabilities again in the backward pass, to save memory."
MISTAKES = (
    Mistake.of("a sum where the mean's division belongs", " / len(targets), None", ", None", says="a division by it is missing"),
    Mistake.of("the one-hot vector is forgotten", "(xp.exp(log_p) - onehot)", "xp.exp(log_p)", says="one-hot vector is missing"),
    Mistake.of("the sign", "(xp.exp(log_p) - onehot)", "(onehot - xp.exp(log_p))", says="the sign is wrong"),
    Mistake.of("no maximum subtracted", "logits - xp.max(logits, axis=-1, keepdims=True)", "logits", says="overflows"),
    Mistake.of("a sum over the positions", "-xp.mean(log_p[rows, targets])", "-xp.sum(log_p[rows, targets])", says="not their mean"),
    Mistake.of("all targets from every row", "log_p[rows, targets]), vjp", "log_p[:, targets]), vjp", says="one per row"),
    Mistake.of(
        "one sum for all rows",
        "xp.sum(xp.exp(shifted), axis=-1, keepdims=True)",
        "xp.sum(xp.exp(shifted))",
        says="the sum runs over all elements: one per row",
    ),
    Mistake.of(
        "one maximum and one sum for all rows",
        "xp.max(logits, axis=-1, keepdims=True)",
        "xp.max(logits)",
        "xp.sum(xp.exp(shifted), axis=-1, keepdims=True)",
        "xp.sum(xp.exp(shifted))",
        says="sum and maximum run over all elements",
    ),
    Mistake.of("whole rows", "onehot[rows, targets] = 1", "onehot[targets] = 1", says="one element per row is [rows, targets]"),
    Mistake.of("a gradient for integers", " / len(targets), None", " / len(targets), onehot", says="integers have no gradient"),
)


def _causes(logits, targets):
    right = ops.cross_entropy(logits, targets).numpy()
    every = ops.softmax(logits).numpy()
    p = every[np.arange(len(targets)), targets]
    shifted = logits - logits.max(axis=-1, keepdims=True)
    at, few = shifted[np.arange(len(targets)), targets], "one per row, axis=-1, keepdims=True"
    return {
        f"the sum runs over all elements: {few}": -np.mean(at - np.log(np.exp(shifted).sum())),
        f"sum and maximum run over all elements: {few}": -np.mean(logits[np.arange(len(targets)), targets] - np.log(np.exp(logits).sum())),
        "the sum of the losses, not their mean": right * len(targets),
        "the logarithm is missing": -p.mean(),
        "the logarithm of the mean probability, not the mean of the logarithms": -np.log(p.mean()),
        "the sign is wrong": -right,
        "[:, targets] takes all targets from every row: one per row, [rows, targets]": -np.log(every[:, targets]).mean(),
    }


def _vjp_causes(dy, logits, targets):
    p, n = ops.softmax(logits).numpy(), len(targets)
    return {
        "the one-hot vector is missing: p - onehot": (dy * p / n, None),
        "the gradient is p - onehot: p is missing": (-dy * np.eye(p.shape[1])[targets] / n, None),
    }


def mark(work: Work) -> None:
    work.slips["out of bounds for axis 0"] = "one element per row is [rows, targets], in this order; [targets] alone picks whole rows"
    large = call([[1000.0, 0.0, -1000.0]], np.array([2]))
    calls = [call(normal(2, 3), np.array([2, 0])), call(normal(4, 3), np.array([1, 1, 0, 2]))]
    check_op(work, "cross_entropy", calls, values=[large], causes=_causes, vjp_causes=_vjp_causes)
