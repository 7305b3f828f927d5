"""Marks the repaired split."""

import math

import numpy as np

from tinylm.learn.exercise import Mistake
from tinylm.learn.work import Work

HINTS = (
    "Take ids = np.arange(100) and look at both parts of the split: which positions are in both?",
    "Windows that are one token apart share 7 of 8 tokens. If they are shuffled before they are divided, neighbours land on both sides.",
    "Divide the text first, then make windows of each part.",
)
THEN = "tinylm/data/corpus.py splits by position, and tinylm/data/overlap.py reports validation lines that occur in training."
BUG = Mistake.of(
    "windows are shuffled before they are divided",
    "    cut = int(0.9 * len(ids))\n    return rng.permutation(windows(ids[:cut])), rng.permutation(windows(ids[cut:]))",
    "    rows = rng.permutation(windows(ids))\n    cut = int(0.9 * len(rows))\n    return rows[:cut], rows[cut:]",
    says="the symptom",
)
MISTAKES = (
    Mistake.of(
        "windows on both sides of the cut",
        "rng.permutation(windows(ids[:cut])), rng.permutation(windows(ids[cut:]))",
        "rng.permutation(windows(ids)[:cut]), rng.permutation(windows(ids)[cut:])",
        says="are in both",
    ),
    Mistake.of("training sees everything", "windows(ids[:cut])", "windows(ids)", says="the symptom"),
    Mistake.of("half of the text is thrown away", "int(0.9 * len(ids))", "int(0.5 * len(ids))", says="nine tenths"),
    Mistake.of("no validation text", "windows(ids[cut:])", "windows(ids[cut : cut + LENGTH])", says="positions are in validation"),
)


def mark(work: Work) -> None:
    split, train = work.get("split"), work.get("train")
    work.begin("validation is no better than chance")
    training, validation = train()
    best = math.log(8)
    text = (
        f"the symptom: {training:.3f} nats on average during training, {validation:.3f} on validation, "
        f"and {best:.3f} is the best that is possible"
    )
    work.expect(validation > 0.98 * best, text)
    work.begin("no token is on both sides")
    positions = np.arange(300)
    parts = [np.asarray(part) for part in split(positions, np.random.default_rng(1))]
    work.expect(all(part.ndim == 2 and part.shape[1] == 8 for part in parts), "both parts must be windows (N, 8)", "", split)
    sides = [set(part.ravel().tolist()) for part in parts]
    both = sorted(sides[0] & sides[1])
    cause = "a window may not reach over the cut: divide the text, then make windows" if len(both) < 50 else ""
    work.expect(not both, f"{len(both)} of 300 positions are in both parts, such as {both[:3]}", cause, split)
    work.begin("nine tenths are for training, the rest for validation")
    text = (
        f"{len(sides[0])} of 300 positions are in training, {len(sides[1])} positions are in validation: "
        f"expected about nine tenths and one tenth"
    )
    work.expect(260 <= len(sides[0]) <= 280 and 20 <= len(sides[1]) <= 40, text, "", split)
    rows = {tuple(r) for r in parts[0].tolist()}
    work.expect(len(rows) == len(sides[0]) - 7, "a window of the training part is missing", "", split)
