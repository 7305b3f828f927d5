"""Sums of products over named axes: Einstein's notation."""

import math
from collections.abc import Callable, Sequence

from tinylm.engine.arrays import Array, all_promoted, array_module, raw_module
from tinylm.engine.op import op
from tinylm.engine.products import matmul_now, products_mode
from tinylm.errors import ShapeError

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@op(sequence=True)
def einsum(arrays, /, subscripts):
    """y[out] = Σ Π_i x_i[in_i] over the letters that are not in out, for "in_0,in_1,...->out": "bqd,bkd->bqk" is Q Kᵀ.

    Each letter names an axis. A letter twice in one operand takes its diagonal; axes of length 1 broadcast; "..." stands for
    leading axes, which broadcast; without "->out", out is "..." and the letters that occur once, in alphabetical order.
    dx_i is the same sum over dy and the other operands, with in_i as its result. The products are taken from left
    to right, two at a time, each as one matrix product. Raises ShapeError for subscripts that do not fit the arrays.
    """
    arrays = all_promoted(arrays)
    xp = array_module(*arrays)
    matmul, rounded = matmul_now(xp), products_mode.rounded

    def multiply(a, b, summed):  # without a sum element by element, unless the operands are rounded
        return matmul(a, b) if summed or rounded else a * b

    given, out = _parsed(subscripts, [x.shape for x in arrays])
    sizes: dict[str, int] = {}
    for x, letters in zip(arrays, given, strict=True):
        sizes |= {c: n for c, n in zip(letters, x.shape, strict=True) if sizes.get(c, 1) == 1}
    parts = [_distinct(x, letters, sizes) for x, letters in zip(arrays, given, strict=True)]

    def vjp(dy):
        gradients = []
        for i, (x, letters) in enumerate(zip(arrays, given, strict=True)):
            part, own, key = parts[i]
            others = [p[:2] for j, p in enumerate(parts) if j != i]
            reached = "".join(c for c in own if c in out or any(c in p[1] for p in others))
            g = _contracted([(dy, out), *others], reached, multiply)
            g = xp.reshape(g, tuple(sizes[c] if c in reached else 1 for c in own))  # letters of its own: the same for each place
            g = xp.broadcast_to(g, part.shape)
            if key is not None:
                g = xp.scatter_add(g, key, tuple(n for c, n in zip(letters, x.shape, strict=True) if sizes[c] == n))
            gradients.append(xp.reshape(g, x.shape))
        return gradients

    return _contracted([p[:2] for p in parts], out, multiply), vjp


def _parsed(subscripts: str, shapes: Sequence[tuple[int, ...]]) -> tuple[list[str], str]:
    """Returns the letters of each operand's axes and of the result's, with spare letters for "...". Raises ShapeError."""
    text = "".join(subscripts.split()) if isinstance(subscripts, str) else ""
    left, arrow, out = text.partition("->")
    terms = left.split(",")
    problem = f"einsum: {subscripts!r} for arrays of shapes {', '.join(map(str, shapes))}: "
    if len(terms) != len(shapes):
        raise ShapeError(f"{problem}expected {len(shapes)} operands, separated by commas")
    for term in (*terms, out):
        if set(term.replace("...", "", 1)) - set(_LETTERS):
            raise ShapeError(f"{problem}expected letters, at most one '...' per operand, and at most one '->'")
    letters = [term.replace("...", "") for term in terms]
    spare = [c for c in reversed(_LETTERS) if c not in text]
    ranks = [len(shape) - len(own) for shape, own in zip(shapes, letters, strict=True)]
    for term, rank, shape in zip(terms, ranks, shapes, strict=True):
        if rank < 0 or (rank and "..." not in term):
            raise ShapeError(f"{problem}{term!r} does not name the {len(shape)} axes of its array")
    leading = "".join(spare[: max(ranks)])
    given = [term.replace("...", leading[len(leading) - rank :]) for term, rank in zip(terms, ranks, strict=True)]
    if not arrow:
        once = sorted(c for c in set("".join(letters)) if "".join(letters).count(c) == 1)
        return given, leading + "".join(once)
    unknown = sorted(set(out.replace("...", "")) - set(left))
    if unknown or len(set(out.replace("...", ""))) < len(out.replace("...", "")) or (leading and "..." not in out):
        what = f"no operand has {unknown[0]!r}" if unknown else "'...' is missing in the result" if leading else "a letter is there twice"
        raise ShapeError(f"{problem}the result {out!r} is not possible: {what}")
    return given, out.replace("...", leading)


def _distinct(x: Array, letters: str, sizes: dict[str, int]) -> tuple[Array, str, tuple[Array, ...] | None]:
    """Returns the operand with each letter once and without the axes of length 1 that broadcast, its letters, and the key of the
    diagonal that was taken (None if no letter occurs twice). Raises ShapeError for a letter with two lengths."""
    for c, n in zip(letters, x.shape, strict=True):
        if n not in (1, sizes[c]) or (letters.count(c) > 1 and n != x.shape[letters.index(c)]):
            lengths = " and ".join(str(n) for n in sorted({sizes[c], n, x.shape[letters.index(c)]}))
            raise ShapeError(f"einsum: the axis {c!r} has the lengths {lengths}; the shape {x.shape} has the letters {letters!r}")
    xp = array_module(x)
    kept = "".join(c for c in letters if sizes[c] == x.shape[letters.index(c)])
    x = xp.reshape(x, tuple(sizes[c] for c in kept))
    own = "".join(dict.fromkeys(kept))
    if len(own) == len(kept):
        return x, own, None
    at = [raw_module(x).arange(sizes[c]).reshape((-1,) + (1,) * (len(own) - 1 - i)) for i, c in enumerate(own)]
    key = tuple(at[own.index(c)] for c in kept)
    return x[key], own, key


def _contracted(operands: Sequence[tuple[Array, str]], out: str, multiply: Callable[..., Array]) -> Array:
    """Returns the sum of products of operands whose letters are distinct and have one length each."""
    (x, own), *rest = operands
    for i, (y, letters) in enumerate(rest):
        needed = out + "".join(p[1] for p in rest[i + 1 :])
        x, own = _product(*_summed(x, own, needed + letters), *_summed(y, letters, needed + own), needed, multiply)
    x, own = _summed(x, own, out)
    return array_module(x).transpose(x, tuple(own.index(c) for c in out)) if own != out else x


def _summed(x: Array, letters: str, needed: str) -> tuple[Array, str]:
    """Returns x summed over the axes whose letters are not needed, and the letters that are left."""
    axes = tuple(i for i, c in enumerate(letters) if c not in needed)
    return (array_module(x).sum(x, axis=axes), "".join(c for c in letters if c in needed)) if axes else (x, letters)


def _product(a: Array, a_letters: str, b: Array, b_letters: str, needed: str, multiply: Callable[..., Array]) -> tuple[Array, str]:
    """Returns two operands' product, summed over the letters that are not needed any more, and its letters."""
    xp = array_module(a, b)
    sizes = dict(zip(a_letters + b_letters, (*a.shape, *b.shape), strict=True))
    both = [c for c in a_letters if c in b_letters and c in needed]
    summed = [c for c in a_letters if c in b_letters and c not in needed]
    rows = [c for c in a_letters if c not in b_letters]
    columns = [c for c in b_letters if c not in a_letters]

    def arranged(x: Array, letters: str, *groups: list[str]) -> Array:
        """Returns x with its axes in the order of `both` and the groups, each group as one axis."""
        x = xp.transpose(x, tuple(letters.index(c) for group in (both, *groups) for c in group))
        lengths = [math.prod(sizes[c] for c in group) for group in groups]
        return xp.reshape(x, (*(sizes[c] for c in both), *lengths))

    y = multiply(arranged(a, a_letters, rows, summed), arranged(b, b_letters, summed, columns), bool(summed))
    own = [*both, *rows, *columns]
    return xp.reshape(y, tuple(sizes[c] for c in own)), "".join(own)
