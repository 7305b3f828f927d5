"""Samples of the functions that work along axes or move elements: reductions, shapes, lookups."""

import numpy as np

from tinylm.verify.samples.registry import Rng, Sample, Samples, distinct, normal, sample, samples_for


@samples_for("sum", "mean", "max", "min", "logsumexp")
def _reductions(rng: Rng) -> Samples:
    x = distinct(rng, 2, 3, 4)
    yield sample("all", x)
    yield sample("all kept", x, keepdims=True)
    yield sample("last axis", x, -1)
    yield sample("middle axis kept", x, 1, True)
    yield sample("two axes", x, (0, 2))
    yield sample("two axes kept", x, axis=(-1, 0), keepdims=True)
    yield sample("0-d", distinct(rng))
    yield sample("axis of length 1", distinct(rng, 3, 1), 1)
    yield sample("wide", distinct(rng, 3, 67), -1)
    yield sample("empty", normal(rng, 0, 3), axis=1)
    yield sample("empty kept", normal(rng, 2, 0, 3), axis=-1, keepdims=True)


@samples_for("sum")
def _sum(rng: Rng) -> Samples:
    yield from _reductions(rng)
    yield sample("of nothing", normal(rng, 0, 3), axis=0)


@samples_for("logsumexp")
def _logsumexp(rng: Rng) -> Samples:
    yield from _reductions(rng)
    yield sample("large values", distinct(rng, 3, 4) + 1000, -1)


@samples_for("var")
def _var(rng: Rng) -> Samples:
    x = normal(rng, 2, 3, 4)
    yield sample("all", x)
    yield sample("last axis", x, -1)
    yield sample("middle axis kept", x, 1, keepdims=True)
    yield sample("two axes", x, (0, 2))
    yield sample("unbiased", x, -1, ddof=1)
    yield sample("unbiased two axes kept", x, axis=(1, 2), ddof=1, keepdims=True)
    yield sample("empty", normal(rng, 0, 3), axis=1)


@samples_for("std")
def _std(rng: Rng) -> Samples:
    yield from _var(rng)
    yield sample("wide", normal(rng, 2, 67) + 3, -1)


@samples_for("prod")
def _prod(rng: Rng) -> Samples:
    x = normal(rng, 2, 3, 4)
    zeros = x.copy()
    zeros[0, 1, 2] = zeros[1, 2, 3] = zeros[1, 2, 0] = 0
    yield sample("all", x)
    yield sample("one zero and two zeros", zeros, (2, 1))
    yield sample("middle axis kept", x, 1, True)
    yield sample("two axes kept", zeros, axis=(-1, 0), keepdims=True)
    yield sample("seven", normal(rng, 2, 7), -1)
    yield sample("0-d", normal(rng))
    yield sample("integers", np.array([[2, -3], [4, 5]]), 0)
    yield sample("of nothing", normal(rng, 0, 3), 0)
    yield sample("empty", normal(rng, 0, 3), axis=1)


@samples_for("argmax", "argmin")
def _argmax(rng: Rng) -> Samples:
    yield sample("all", distinct(rng, 3, 4))
    yield sample("last axis", distinct(rng, 3, 4), -1)
    yield sample("first axis kept", distinct(rng, 3, 4), axis=0, keepdims=True)
    yield sample("ties", np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 2.0]]), 1)
    yield sample("empty", normal(rng, 0, 3), 1)


@samples_for("any", "all")
def _truth(rng: Rng) -> Samples:
    x = rng.integers(0, 2, (2, 3, 4))
    yield sample("booleans", x > 0)
    yield sample("integers, last axis", x, -1)
    yield sample("numbers, two axes kept", np.where(x, np.nan, 0.0), (0, -1), keepdims=True)
    yield sample("0-d", np.array(True))
    yield sample("of nothing", np.zeros((2, 0), bool), 1)


@samples_for("sort", "argsort")
def _sort(rng: Rng) -> Samples:
    yield sample("last axis", distinct(rng, 3, 4))
    yield sample("first axis", distinct(rng, 3, 2), 0)
    yield sample("middle axis", distinct(rng, 2, 4, 2), axis=-2)
    yield sample("wide", distinct(rng, 2, 67))
    yield sample("integers", rng.permutation(7))
    yield sample("empty", normal(rng, 2, 0))


@samples_for("topk")
def _topk(rng: Rng) -> Samples:
    yield sample("last axis", distinct(rng, 3, 5), 2)
    yield sample("first axis", distinct(rng, 4, 2), 3, 0)
    yield sample("middle axis", distinct(rng, 2, 4, 2), 1, axis=-2)
    yield sample("all", distinct(rng, 2, 3), k=3)
    yield sample("none", distinct(rng, 2, 3), 0)
    yield sample("integers", rng.permutation(7), 3)
    yield sample("empty", normal(rng, 0, 3), 2)


@samples_for("cumsum")
def _cumsum(rng: Rng) -> Samples:
    x = normal(rng, 2, 3, 4)
    yield sample("all", x)
    yield sample("first axis", x, 0)
    yield sample("last axis", x, axis=-1)
    yield sample("integers", np.array([3, -1, 2]), 0)
    yield sample("empty", normal(rng, 2, 0), 1)
    yield sample("of no rows", normal(rng, 0, 3), 1)


@samples_for("softmax", "log_softmax")
def _softmax(rng: Rng) -> Samples:
    yield sample("last axis", normal(rng, 3, 4))
    yield sample("first axis", normal(rng, 3, 4), 0)
    yield sample("middle axis", normal(rng, 2, 3, 2), axis=1)
    yield sample("one element", normal(rng, 3, 1))
    yield sample("wide", normal(rng, 5, 67))
    yield sample("vector", normal(rng, 5))
    yield sample("large values", normal(rng, 2, 4) + np.array([[1000.0], [-1000.0]]))
    yield sample("empty", normal(rng, 0, 4))


# ---------------------------------------------------------------- shapes


@samples_for("reshape")
def _reshape(rng: Rng) -> Samples:
    x = normal(rng, 2, 3, 4)
    yield sample("matrix", x, (6, 4))
    yield sample("one size worked out", x, (3, -1))
    yield sample("flat", x, -1)
    yield sample("0-d", normal(rng, 1, 1), ())
    yield sample("empty", normal(rng, 0, 3), (3, 0))


@samples_for("transpose")
def _transpose(rng: Rng) -> Samples:
    x = normal(rng, 2, 3, 4)
    yield sample("reversed", x)
    yield sample("cycle", x, (1, 2, 0))
    yield sample("negative axes", x, axes=(0, -1, 1))
    yield sample("empty", normal(rng, 0, 3))


@samples_for("swapaxes")
def _swapaxes(rng: Rng) -> Samples:
    yield sample("last two", normal(rng, 2, 3, 4), -1, -2)
    yield sample("first and last", normal(rng, 2, 3, 4), 0, 2)
    yield sample("empty", normal(rng, 0, 3), 0, 1)


@samples_for("expand_dims")
def _expand_dims(rng: Rng) -> Samples:
    yield sample("front", normal(rng, 2, 3), 0)
    yield sample("back", normal(rng, 2, 3), -1)
    yield sample("two", normal(rng, 2, 3), (0, 2))
    yield sample("empty", normal(rng, 0), 1)


@samples_for("squeeze")
def _squeeze(rng: Rng) -> Samples:
    yield sample("all", normal(rng, 1, 3, 1))
    yield sample("all, others kept", normal(rng, 2, 1, 3))
    yield sample("one", normal(rng, 1, 3, 1), -1)
    yield sample("two", normal(rng, 1, 3, 1), axis=(0, -1))
    yield sample("0-d", normal(rng))
    yield sample("empty", normal(rng, 1, 0))


@samples_for("broadcast_to")
def _broadcast_to(rng: Rng) -> Samples:
    yield sample("new axis", normal(rng, 3), (2, 3))
    yield sample("stretched axis", normal(rng, 2, 1), (2, 3))
    yield sample("both", normal(rng, 3, 1), (2, 3, 4))
    yield sample("0-d", normal(rng), (2, 2))
    yield sample("unchanged", normal(rng, 2, 2), (2, 2))
    yield sample("lengths kept", normal(rng, 2, 1, 3), (4, -1, 2, -1))
    yield sample("empty", normal(rng, 1, 3), (0, 3))


@samples_for("flip")
def _flip(rng: Rng) -> Samples:
    x = normal(rng, 2, 3, 4)
    yield sample("all", x)
    yield sample("last axis", x, -1)
    yield sample("two axes", x, axis=(0, -2))
    yield sample("0-d", normal(rng))
    yield sample("empty", normal(rng, 0, 3), 0)


@samples_for("flatten")
def _flatten(rng: Rng) -> Samples:
    x = normal(rng, 2, 3, 4)
    yield sample("all", x)
    yield sample("first two axes", x, 0, 1)
    yield sample("last two axes", x, start_axis=-2)
    yield sample("one axis", x, 1, end_axis=1)
    yield sample("0-d", normal(rng))
    yield sample("empty", normal(rng, 2, 0, 3), 1)


@samples_for("repeat")
def _repeat(rng: Rng) -> Samples:
    x = normal(rng, 2, 3)
    yield sample("flattened", x, 2)
    yield sample("middle axis", normal(rng, 2, 3, 2), 3, 1)
    yield sample("last axis, none", x, 0, axis=-1)
    yield sample("each its own", x, [2, 0, 1], 1)
    yield sample("flattened, each its own", x, (1, 0, 3, 2, 0, 1))
    yield sample("0-d", normal(rng), 3)
    yield sample("empty", normal(rng, 0, 3), 2, 1)


@samples_for("tile")
def _tile(rng: Rng) -> Samples:
    yield sample("last axis", normal(rng, 2, 3), 2)
    yield sample("both axes", normal(rng, 2, 3), (2, 3))
    yield sample("new axes", normal(rng, 3), [2, 1, 2])
    yield sample("0-d", normal(rng), (2, 2))
    yield sample("no copy", normal(rng, 2, 3), (0, 1))
    yield sample("empty", normal(rng, 0, 3), (2, 2))


@samples_for("roll")
def _roll(rng: Rng) -> Samples:
    x = normal(rng, 2, 3, 4)
    yield sample("flattened", x, 5)
    yield sample("last axis", x, -1, -1)
    yield sample("beyond the length", x, 7, axis=1)
    yield sample("two axes", x, (1, -2), (0, 2))
    yield sample("one axis twice", x, [1, 2], (2, -1))
    yield sample("0-d", normal(rng), 1)
    yield sample("empty", normal(rng, 0, 3), 1, 0)


@samples_for("tril", "triu")
def _triangles(rng: Rng) -> Samples:
    yield sample("square", normal(rng, 3, 3))
    yield sample("above, wide", normal(rng, 2, 5), 1)
    yield sample("below, batch", normal(rng, 2, 4, 3), k=-2)
    yield sample("outside", normal(rng, 2, 3), 9)
    yield sample("booleans", np.ones((3, 4), bool))
    yield sample("empty", normal(rng, 0, 3))


@samples_for("concatenate", "stack")
def _concatenate(rng: Rng) -> Samples:
    yield sample("first axis", [normal(rng, 2, 3), normal(rng, 2, 3)])
    yield sample("last axis", [normal(rng, 2, 3), normal(rng, 2, 3), normal(rng, 2, 3)], -1)
    yield sample("one array", [normal(rng, 2, 3)], axis=1)
    yield sample("one array twice", [x := normal(rng, 3), x])
    yield sample("empty", [normal(rng, 0, 3), normal(rng, 0, 3)], 1)


@samples_for("concatenate")
def _concatenate_unequal(rng: Rng) -> Samples:
    yield from _concatenate(rng)
    yield sample("unequal lengths", [normal(rng, 2, 1), normal(rng, 2, 0), normal(rng, 2, 4)], 1)


@samples_for("split")
def _split(rng: Rng) -> Samples:
    yield sample("equal parts", normal(rng, 4, 3), 2)
    yield sample("at indices", normal(rng, 2, 6), [1, 4], -1)
    yield sample("an empty part", normal(rng, 2, 4), (2, 2), axis=1)
    yield sample("one part", normal(rng, 3), 1)
    yield sample("empty", normal(rng, 0, 4), 2, 1)


@samples_for("pad")
def _pad(rng: Rng) -> Samples:
    yield sample("zeros", normal(rng, 2, 3), ((1, 0), (2, 1)))
    yield sample("another value", normal(rng, 3), [(0, 2)], constant_values=1.5)
    yield sample("nothing", normal(rng, 2, 2), ((0, 0), (0, 0)))
    yield sample("empty", normal(rng, 0, 2), ((1, 1), (0, 0)))


# ---------------------------------------------------------------- lookups


_KEYS = [
    ("integer", 1),
    ("last", -1),
    ("slice", slice(1, 3)),
    ("negative step", slice(None, None, -2)),
    ("columns", (slice(None), slice(0, 2))),
    ("ellipsis", (..., 2)),
    ("new axes", (None, 1, None)),
    ("element", (3, 2)),
    ("rows with repeats", np.array([2, 0, 2, -2])),
    ("rows of rows", np.array([[0, 3], [3, 3]])),
    ("pairs with repeats", (np.array([0, 3, 0]), np.array([1, 2, 1]))),
    ("broadcast pairs", (np.array([[0], [2]]), np.array([1, 2]))),
    ("slice and array", (slice(1, None), np.array([2, 2, 0]))),
    ("integer and array", (1, np.array([2, 2]))),
    ("mask of elements", np.arange(12).reshape(4, 3) % 3 == 1),
    ("mask of rows", np.array([True, False, True, True])),
    ("mask of columns", (slice(None), np.array([True, False, True]))),
    ("no rows", slice(2, 2)),
    ("no positions", np.zeros(0, np.int64)),
    ("everything", ...),
]


@samples_for("getitem")
def _getitem(rng: Rng) -> Samples:
    x = normal(rng, 4, 3)
    for note, key in _KEYS:
        yield sample(note, x, key)
    yield sample("empty", normal(rng, 0, 3), slice(None))


@samples_for("scatter_add")
def _scatter_add(rng: Rng) -> Samples:
    for note, key in _KEYS:
        yield sample(note, normal(rng, *np.zeros((4, 3))[key].shape), key, (4, 3))


@samples_for("index_add")
def _index_add(rng: Rng) -> Samples:
    for note, key in _KEYS:
        if "repeats" not in note and note not in ("rows of rows", "slice and array", "integer and array"):  # positions must differ
            yield sample(note, normal(rng, 4, 3), normal(rng, *np.zeros((4, 3))[key].shape), key)


@samples_for("take_along_axis")
def _take_along_axis(rng: Rng) -> Samples:
    yield sample("last axis", normal(rng, 3, 4), rng.integers(0, 4, (3, 2)), -1)
    yield sample("first axis", normal(rng, 3, 4), rng.integers(0, 3, (2, 4)), axis=0)
    yield sample("repeats", normal(rng, 2, 3), np.array([[1, 1, 1], [0, 2, 0]]), 1)
    yield sample("three axes", normal(rng, 2, 3, 2), rng.integers(0, 3, (2, 1, 2)), 1)
    yield sample("empty", normal(rng, 3, 4), np.zeros((3, 0), np.int64), 1)


@samples_for("gather")
def _gather(rng: Rng) -> Samples:
    yield sample("fewer rows", normal(rng, 3, 4), rng.integers(0, 4, (2, 3)), -1)
    yield sample("one row, repeats", normal(rng, 3, 4), np.array([[1, 1, 3, 1, 0]]), 1)
    yield sample("first axis", normal(rng, 3, 4), rng.integers(0, 3, (5, 2)), axis=0)
    yield sample("three axes", normal(rng, 2, 3, 4), rng.integers(0, 3, (1, 3, 2)), 1)
    yield sample("empty", normal(rng, 3, 4), np.zeros((0, 2), np.int64), 1)


@samples_for("take")
def _take(rng: Rng) -> Samples:
    yield sample("flattened", normal(rng, 3, 4), np.array([[11, -12], [3, 3]]))
    yield sample("rows with repeats", normal(rng, 3, 4), np.array([2, 0, 2, -1]), 0)
    yield sample("middle axis", normal(rng, 2, 3, 2), rng.integers(0, 3, (2, 2)), axis=-2)
    yield sample("one", normal(rng, 3, 4), np.array(1), 1)
    yield sample("none", normal(rng, 3, 4), np.zeros(0, np.int64), 1)


@samples_for("one_hot")
def _one_hot(rng: Rng) -> Samples:
    yield sample("ids", np.array([[0, 3], [1, 0]]), 4)
    yield sample("more classes, small integers", np.array([2, 0], np.uint8), num_classes=5)
    yield sample("one id", np.array(1), 2)
    yield sample("empty", np.zeros((2, 0), np.int64), 3)


@samples_for("embedding")
def _embedding(rng: Rng) -> Samples:
    ids = np.array([[0, 3, 3], [1, 0, 3]])
    yield sample("repeats", ids, normal(rng, 5, 2))
    yield Sample("padding", (ids, normal(rng, 4, 3)), {"padding_idx": 3}, derivative=False)
    yield sample("one id", np.array(2), normal(rng, 4, 3))
    yield sample("small integers", ids.astype(np.int32), normal(rng, 4, 1))
    yield sample("wide", rng.integers(0, 11, (4, 9)), normal(rng, 11, 67))
    yield sample("empty", ids[:, :0], normal(rng, 4, 3))
