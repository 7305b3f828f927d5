"""Marks the sum with broadcasting."""

from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "Without broadcasting the vjp would be `return dy, dy`. dy has y's shape; a gradient must have its argument's shape.",
    "sum_to(dy, b.shape) is the gradient of b, whether b was repeated or not.",
)
THEN = "tinylm/ops/pointwise.py: every op of two arrays ends its vjp with sum_to."
MISTAKES = (
    Mistake.of("no sum over the repetitions", "sum_to(dy, b.shape)", "dy", says="missing un-broadcast"),
    Mistake.of("only b is thought of", "sum_to(dy, a.shape)", "dy", says="the gradient of a has shape (2, 3)"),
    Mistake.of("a mean over the repetitions", "sum_to(dy, b.shape)", "sum_to(dy, b.shape) * b.size / dy.size", says="missing un-broadcast"),
    Mistake.of("the first repetition alone", "sum_to(dy, b.shape)", "(dy if dy.shape == b.shape else dy[0])", says="missing un-broadcast"),
)


def mark(work: Work) -> None:
    calls = [(normal(2, 3), normal(2, 3, seed=1)), (normal(2, 3), normal(3)), (normal(2, 1), normal(2, 3)), (normal(3), normal(2, 3))]
    check_op(work, "add", [call(*each) for each in calls])
