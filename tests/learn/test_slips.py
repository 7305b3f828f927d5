"""What a newcomer writes, and the words that he must be told: each slip as a change of the solved file."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tinylm.learn.comparing import compare, named_factor
from tinylm.learn.exercise import Mistake, course
from tinylm.learn.repair_words import without_repair
from tinylm.learn.running import Result, mark
from tinylm.learn.work import Work, Wrong

NUMPY = ("import tinylm\n", "import numpy as np\n\nimport tinylm\n")
VJP = "    def vjp(dy):\n        return dy * b, dy * a\n\n    return y, vjp"
SOFTMAX_VJP = "        return (y * (dy - xp.sum(dy * y, axis=-1, keepdims=True)),)"
SECOND = "so that the second derivative can be computed"
ONEHOT = (
    "        onehot = np.zeros(logits.shape, logits.dtype)\n        onehot[rows, targets] = 1\n"
    "        return dy * (xp.exp(log_p) - onehot) / len(targets), None"
)
WRITTEN = "        p = {}\n        p[rows, targets] -= 1\n        return dy * p / len(targets), None"
CONSTANT = "make a NumPy array that does not depend on the arguments, such as np.zeros(logits.shape, logits.dtype), write into that"
FITS = "shapes are lined up at their last axes: from the right"
SOFTMAX = "weights, softmax_vjp = softmax.op.body(scores)"
SLIPS = [  # exercise, the changes, words of the message, words of the line that it names
    ("multiply", (VJP, VJP.replace("y, vjp", "vjp, y")), "the two are swapped: first the value", "def multiply"),
    ("multiply", (VJP, VJP.replace("y, vjp", "y, vjp(1.0)")), "vjp was called: return the function itself", "def multiply"),
    ("multiply", (VJP, VJP.replace("vjp(dy)", "vjp()")), "a vjp takes the cotangent of y, dy: def vjp(dy)", "def vjp():"),
    ("multiply", (VJP, "    return y, lambda: (b, a)"), "the vjp takes (): expected one argument", "lambda: (b, a)"),
    ("multiply", ("dy * b,", "dy * b * b,"), "each element has an extra factor, b", "def vjp"),
    ("sum_to", ("axis=tuple(axes)", "dim=tuple(axes)"), "as in NumPy: dim= is called axis=", "dim="),
    ("sum_to", ("    return x.sum", "    axes = axes or None\n    return x.sum"), "`axes` is None here", "tuple(axes)"),
    ("sum_to", (", keepdims=True).reshape(shape)", ", keepdims=True)[..., None]"), "an axis of length 1 too many", "def sum_to"),
    ("sum_to", ("x.sum(axis=tuple(axes), keepdims=True).reshape(shape)", "x"), "from (2, 3) to (3,)", "def sum_to"),
    ("matmul", ("xp.swapaxes(a, -1, -2)", "xp.transpose(a)"), "xp.transpose(a) reverses every axis of a", "xp.transpose"),
    ("matmul", ("xp.swapaxes(b, -1, -2)", "b.transpose(-1, -2)"), "swaps two of them", "b.transpose"),
    ("softmax", (SOFTMAX_VJP, SOFTMAX_VJP.replace("axis=-1, keepdims", "dim=-1, keepdim")), "keepdim= is called keepdims=", "dim=-1"),
    ("softmax", ("xp.max(x, axis=-1", "xp.max(x, dim=-1"), "dim= is called axis=", "xp.max(x, dim"),
    ("softmax", ("    return y, vjp", "    return (lambda a, b: a)(y), vjp"), "lambda a, b: a is called with more or fewer", "(y)"),
    ("softmax", ("def softmax(x, /)", "def softmax(x, z, /)"), "no longer takes the arguments that the task says", ""),
    ("softmax", ("dy - xp.sum", "dy + xp.sum"), "line 24: the term `xp.sum(dy * y, axis=-1, keepdims=True)` has the wrong", "def vjp"),
    ("softmax", (*NUMPY, "e = xp.exp", "e = np.exp"), f"np.exp takes no tensors|call xp.exp, {SECOND}", "np.exp"),
    ("softmax", (*NUMPY, "return (y *", "return (np.asarray(y) *"), "leave np.asarray out", "np.asarray"),
    ("gelu", ("math.sqrt(2 * math.pi)", "math.sqrt(2 * x)"), "the functions of math take numbers", "2 * x"),
    ("embedding", ("weight.shape)", "len(weight))"), "the last argument of scatter_add is a shape, a tuple", "scatter_add"),
    (
        "embedding",
        (
            *NUMPY,
            "    return weight[ids], lambda dy: (None, xp.scatter_add(dy, ids, weight.shape))",
            "    def vjp(dy):\n        d = np.zeros(weight.shape)\n        np.add.at(d, ids, dy)\n        return None, d\n\n"
            "    return weight[ids], vjp",
        ),
        "call xp.scatter_add",
        "np.add.at(d, ids, dy)",
    ),
    ("layer_norm", ("dy * xhat", "dy * x"), "line 27: another variable belongs where `x` stands", "def vjp"),
    ("layer_norm", ("- xhat *", "+ xhat *"), "the term `xhat * xp.mean(dxhat * xhat, axis=-1, keepdims=True)` has", "def vjp"),
    ("layer_norm", ("return dx, sum", "return (dx,), sum"), "it is a tuple of one array, and not the array", "def vjp"),
    ("attention", ("k) * scale\n        dk", "k)\n        dk"), "a factor of 1.73205: √3, where 3 is the length of axis 1 of q", "def vjp"),
    ("attention", ("xp.swapaxes(dscores, -1, -2)", "dscores.T"), "dscores.T reverses every axis of dscores", "dk ="),
    ("attention", ("(dscores,) = softmax", "ds = softmax", "(dscores, k)", "(ds * 1.0, k)"), "`ds` is a tuple of one array", "ds * 1.0"),
    ("cross_entropy", (ONEHOT, WRITTEN.format("xp.exp(log_p).copy()")), CONSTANT, "copy()"),
    ("cross_entropy", (ONEHOT, WRITTEN.format("xp.exp(log_p) * 1")), CONSTANT, "p[rows, targets] -= 1"),
    ("cross_entropy", (ONEHOT, WRITTEN.format("xp.exp(log_p).detach().numpy().copy()")), f"no .detach|{CONSTANT}", "detach"),
    ("cross_entropy", (ONEHOT, WRITTEN.format("np.array(xp.exp(log_p))")), CONSTANT, "np.array"),
    ("cross_entropy", ("np.zeros(logits.shape, logits.dtype)", "xp.zeros(logits.shape)"), "np.zeros(logits.shape, logits.dtype)", "xp.z"),
    (
        "cross_entropy",
        (ONEHOT, ONEHOT.replace("np.zeros(logits.shape, logits.dtype)", "xp.full((len(rows), logits.shape[1]), 0.0)")),
        "np.full((len(rows), logits.shape[1]), 0.0, logits.dtype)",
        "xp.full",
    ),
    ("cross_entropy", ("mean(log_p[rows, targets])", "mean(log_p[targets])"), "one element per row is [rows, targets]", "mean(log_p[t"),
    ("matmul", ("xp.swapaxes(b, -1, -2)", "xp.swapaxes(b, 0, 1)"), "swaps a leading axis of b: xp.swapaxes(b, -1, -2)", "swapaxes(b, 0"),
    ("matmul", ("xp.matmul(dy, xp.swapaxes(b, -1, -2))", "dy * b"), "`*` multiplies element by element", "dy * b"),
    ("softmax", (SOFTMAX_VJP, "        return ((xp.diag(y) - xp.outer(y, y)) @ dy,)"), "made for one vector", "xp.diag"),
    ("softmax", (SOFTMAX_VJP, "        s = xp.sum(dy * y, axis=-1)\n        return (y * (dy - s),)"), "keepdims=True keeps its", "- s"),
    ("softmax", (SOFTMAX_VJP, "        return ((xp.eye(3) * y) @ dy,)"), FITS, "xp.eye"),
    ("softmax", (SOFTMAX_VJP, "        return (y * dy * 0,)"), "this gradient is 0 everywhere", "def vjp"),
    ("attention", ("xp.matmul(dy, xp.swapaxes(v, -1, -2)))", "dy)"), "softmax_vjp takes the gradient of the value", "softmax_vjp(dy)"),
    ("attention", ("np.tri(q.shape[-2]", "np.tri(q.shape[0]"), "q.shape[0] is the length of a leading axis", "np.tri"),
    ("attention", (SOFTMAX, "weights = softmax(scores)"), "softmax.op.body(scores) gives the value and its vjp", "matmul(weights, v)"),
    ("attention", (SOFTMAX, "weights = softmax(scores)", "xp.matmul(weights, v)", "weights @ v"), "softmax.op.body(scores)", "def "),
    ("gelu", ("    return x * below, vjp", "    y = x * below,\n    return y, vjp"), "the end of line 27 makes `y`", "def gelu"),
    ("gelu", ("math.sqrt(2 * math.pi)\n", "math.sqrt(2 * math.pi),\n"), "the comma at the end of line 24 makes `density`", "def vjp"),
    ("gelu", ("-0.5 * x * x", "-0.5 * x^2"), "the power is written **", "x^2"),
    ("gelu", ("xp.erf", "np.erf"), "functions from xp, the NumPy of its arguments: xp.erf", "np.erf"),
    ("gelu", ("import math\n", "import math\n\nimport numpy as np\n", "xp.erf", "np.erf"), "arguments: xp.erf", "np.erf"),
    ("gelu", ("xp.erf", "erf"), "functions from xp, the NumPy of its arguments: xp.erf", "1 + erf"),
    ("gelu", ("xp.erf", "tinylm.erf"), "within the body of an op call xp.erf", "def gelu"),
    ("sum_to", ("axis=tuple(axes)", "axis=range(len(axes))"), "several axes are given as a tuple: axis=tuple(", "range"),
    ("block", ("y.swapaxes(1, 2)", "y.transpose(1, 2)"), "x.swapaxes(1, 2) swaps two of them", "y.transpose(1, 2)"),
    ("block", ("causal=True)\n        return", "is_causal=True)\n        return"), "is_causal= is called causal=", "is_causal"),
    ("block", ("n, t, c = x.shape", "n, t, c = x.size()"), ".size is a value and no method", "x.size()"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes", "words", "source"), SLIPS)
def test_a_slip_is_named(name: str, changes: tuple[str, ...], words: str, source: str, tmp_path: Path) -> None:
    exercise = next(e for e in course() if e.name == name)
    path = tmp_path / exercise.file_name
    path.write_text(Mistake.of("", *changes).on(exercise.solution()), encoding="utf-8")
    result: Result = mark(path, exercise.marker.mark)
    assert not result.ok
    for part in words.split("|"):
        assert part in str(result)
    assert source in result.source
    assert "create_graph" not in str(result)
    assert ".detach().numpy()" not in result.finding
    assert "x * 1 is a copy" not in result.cause or "-=" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("new", "old", "kind"),
    [
        ("a - b", "a + b", "the term `b` has the wrong sign"),
        ("- b * c...", "+ b * c...", "the term `b * c...` has the wrong sign"),
        ("-a", "a", "`a` has the wrong sign"),
        ("a", "-a", "`-a` has the wrong sign"),
        ("a / b", "a * b", "a product and a quotient are mixed up: `a * b`"),
        ("b - a", "a - b", "the two sides of `a - b` are in the wrong order"),
        ("a", "a + b", "a part of `a + b` is too much"),
        ("b", "a", "another variable belongs where `a` stands"),
        ("3", "2", "another number belongs where `2` stands"),
        ("a * 2", "a", "a factor is missing at `a`"),
        ("1 + a", "a", "a term is missing beside `a`"),
        ("xp.sum(a)", "xp.mean(a)", "another function belongs where `xp.mean` stands"),
        ("xp.where(m, a, b)", "xp.where(m, b, a)", "the two cases of `xp.where(m, b, a)` are the wrong way round"),
        ("a.T", "a", "a transposition is missing at `a`"),
        ("a", "a.T", "a transposition too many: `a.T`"),
        ("a", "a[0]", "an index too many: `a[0]`"),
        ("a...", "b...", "one small change at `b...` would make it right"),
    ],
)
def test_a_repair_is_told_by_its_kind(new: str, old: str, kind: str) -> None:
    assert without_repair(f"right with `{new}` instead of `{old}` (line 7)") == f"line 7: {kind}"


def test_factors_that_tell_something() -> None:
    arrays = {"q": np.zeros((2, 3)), "k": np.zeros((5, 3))}
    assert named_factor(3**-0.5, arrays) == "0.57735: 1/√3, where 3 is the length of axis 1 of q: is a scale missing, or there twice?"
    assert named_factor(-5.0, arrays).startswith("-5: -5, where 5 is the length of axis 0 of k")
    assert named_factor(0.5) == "0.5, 1/2"
    assert named_factor(1.3172) == "1.3172"


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (1.31746, 1.0, ""),  # one number has a factor in any case
        (-1.0, 1.0, "the sign is wrong"),
        (3.0, 1.0, "a factor of 3"),
        ([2.6, 5.2], [1.0, 2.0], "a factor of 2.6"),
        (np.float32([0.1, 0.7]), [0.1, 0.7], "almost right: a constant of too few digits"),
        (np.ones((2, 3)), np.ones((2, 1)), "there is no sum over axis 1"),
    ],
)
def test_what_numbers_tell_by_themselves(got: object, expected: object, words: str) -> None:
    with pytest.raises(Wrong) as caught:
        compare(Work(Path("x.py"), ModuleType("x")), "y", got, np.asarray(expected))
    assert caught.value.cause.startswith(words)
    assert bool(words) == bool(caught.value.cause)
