"""Marks an op of the learner's: its value, its vjp against finite differences (first and second order), and PyTorch."""

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.learn.comparing import compare, described, named_factor
from tinylm.learn.op_slips import called_an_op, is_of_one, of_one
from tinylm.learn.repair_words import without_repair
from tinylm.learn.work import Work, Wrong
from tinylm.verify.finite_differences import gradcheck
from tinylm.verify.reports import Report


@dataclass(frozen=True)
class Call:
    """One call of an op: arrays, settings, and a word about it for messages."""

    args: tuple[Any, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


def call(*args: Any, **settings: Any) -> Call:
    """Returns a call; lists become float64 arrays."""
    return Call(tuple(np.array(a, np.float64) if isinstance(a, list) else a for a in args), settings)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Returns standard normal numbers in float64, other ones for another shape or seed."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def check_op(
    work: Work,
    name: str,
    calls: Sequence[Call],
    *,
    values: Sequence[Call] = (),
    expected: Callable[..., Any] | None = None,
    causes: Callable[..., Mapping[str, Any]] | None = None,
    vjp_causes: Callable[..., Mapping[str, Any]] | None = None,
    orders: tuple[int, ...] = (1, 2),
    torch: bool = True,
) -> None:
    """Raises Wrong unless the op `name` of the file gives the value of tinylm's op of that name, and right gradients.

    The steps: value, gradient by finite differences, gradient of the gradient, and both against PyTorch where it is installed
    (torch). values: further calls, whose value alone is compared. expected: another function for the value, on tensors.
    causes: from the arguments of a call, what known mistakes would give as the value, by their phrase; vjp_causes: from dy
    and the arguments, what they would give as the gradients, in a tuple with None for those that may be anything.
    """
    function = work.get(name)
    if not hasattr(function, "op"):
        raise Wrong("the names", f"{name!r} is no op: keep the line @tinylm.op above it", line=work.line_of(function))
    expected = expected or getattr(ops, name)
    body = function.op.body
    names = [p.name for p in inspect.signature(body).parameters.values()]
    work.begin("the value")
    for each in [*calls, *values]:
        _value(work, function, each, expected, causes, described(names, each.args, each.settings))
    work.begin("the shapes of the gradients")
    for each in calls:
        _gradient_shapes(work, body, each, names)
    for order in orders:
        for each in calls:
            shown = described(names, each.args, each.settings)
            work.begin(f"the gradient{' of the gradient (second order)' if order == 2 else ''}, against finite differences")
            report = gradcheck(function, *each.args, order=order, **each.settings)
            if not report.ok:
                y, vjp = body(*each.args, **each.settings)
                known = _known(vjp, np.shape(y), each, vjp_causes) if vjp_causes is not None and order == 1 else ""
                raise _from_report(work, report, dict(zip(names, each.args, strict=False)), shown, order, (np.shape(y), vjp), known)
    with_torch = torch and _torch_works()
    work.begin(f"value and gradient, against {'PyTorch' if with_torch else 'tinylm'}")
    for each in calls:
        _parity(work, function, each, names, _in_torch(name, each) if with_torch else _in_tinylm(expected, each))


def _torch_works() -> bool:
    """Returns whether PyTorch can be imported: an installation that is broken is none of the learner's mistakes."""
    if importlib.util.find_spec("torch") is None:
        return False
    try:
        importlib.import_module("torch")
    except (ImportError, OSError):
        return False
    return True


def _known(vjp: Any, shape: tuple[int, ...], each: Call, vjp_causes: Any) -> str:
    """Returns the phrase of the known mistake that gives the same gradients, or ""."""
    dy = normal(*shape, seed=2)
    for phrase, wrong in vjp_causes(dy, *each.args, **each.settings).items():
        pairs = [(g, w) for g, w in zip(vjp(dy), wrong, strict=True) if w is not None]
        if all(np.allclose(g, w, rtol=1e-8, atol=1e-12) for g, w in pairs):
            return phrase
    return ""


def _value(work: Work, function: Any, each: Call, expected: Any, causes: Any, shown: str) -> None:
    """Compares the body's value, and looks whether it returns (value, vjp) and changes nothing that it was given."""
    body = function.op.body
    copies = tuple(a.copy() if isinstance(a, np.ndarray) else a for a in each.args)
    result = body(*copies, **each.settings)
    if not (isinstance(result, tuple | list) and len(result) == 2 and callable(result[1])):
        got = "nothing" if result is None or result is Ellipsis else f"a {type(result).__name__}"
        cause = ""
        if isinstance(result, tuple | list) and len(result) == 2:
            got = f"a {type(result[1]).__name__} beside the value"
            cause = "vjp was called: return the function itself" if isinstance(result[1], tuple) else ""
            if callable(result[0]):
                got, cause = "the function first", "the two are swapped: first the value, then the function"
        raise work.wrong(f"{body.__name__} returns {got}: expected `return y, vjp`, the value and the function", cause, function)
    try:
        inspect.signature(result[1]).bind(result[0])
    except TypeError:
        cause = "a vjp takes the cotangent of y, dy: def vjp(dy)"
        raise work.wrong(f"the vjp takes {inspect.signature(result[1])}: expected one argument", cause, result[1]) from None
    except ValueError:  # a function without a signature
        pass
    if isinstance(result[0], Tensor):
        cause = "a function of tinylm was called, which makes tensors: within the body of an op use those of xp"
        cause = called_an_op(work.tree(), work.value) or cause
        raise work.wrong("the value is a Tensor: expected an array, as the arguments are", cause, function)
    value = result[0]
    right = expected(*each.args, **each.settings)
    other = is_of_one(value) or getattr(value, "shape", right.shape) != right.shape
    if other and (of_one_array := _of_one_within(work, body, *copies, **each.settings)):
        raise work.wrong(f"the value has shape {np.shape(value)}: expected {right.shape}", of_one_array, function)
    known = causes(*each.args, **each.settings) if causes is not None else {}
    compare(work, f"{body.__name__}({shown})", value, right, causes=known, where=function)
    for name, before, after in zip(inspect.signature(body).parameters, each.args, copies, strict=False):
        if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=True):
            raise work.wrong(
                f"{name} has other numbers after the call", "it is changed in place: x *= 2 changes x, x = x * 2 does not", function
            )


def check_float32(work: Work, name: str, each: Call) -> None:
    """Raises Wrong if the op `name` makes float64 of float32 arrays. For exercises whose task speaks of it."""
    work.begin("float32 stays float32")
    function = work.get(name)
    args = [a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in each.args]
    y, vjp = function.op.body(*args, **each.settings)
    found = [*(["y"] if y.dtype == np.float64 else []), *(["the gradient"] if vjp(np.ones_like(args[0]))[0].dtype == np.float64 else [])]
    if found:
        cause = (
            "a float64 array or number, such as np.sqrt(2) or np.ones(3), makes float64 of everything: math.sqrt(2), ones.astype(x.dtype)"
        )
        raise work.wrong(f"{' and '.join(found)} would be float64 for a float32 x", cause, function)


def _gradient_shapes(work: Work, body: Any, each: Call, names: Sequence[str]) -> None:
    """Looks whether the vjp returns one gradient per array, of its shape, and whether it uses dy."""
    shown, arrays = described(names, each.args, each.settings), len(each.args)
    value, vjp = body(*each.args, **each.settings)
    dy = normal(*np.shape(value), seed=1)
    grads = vjp(dy)
    if not isinstance(grads, tuple | list):
        every = ", ".join(
            "None" if isinstance(a, np.ndarray) and a.dtype.kind != "f" else f"d{n}" for n, a in zip(names, each.args, strict=False)
        )
        cause = f"a comma makes a tuple of one: return ({every},)" if arrays == 1 else f"return all of them: return {every}"
        got = "nothing" if grads is None or grads is Ellipsis else f"a {type(grads).__name__}"
        raise work.wrong(f"the vjp returns {got}: expected a tuple with {arrays} gradient{'s' * (arrays > 1)}", cause, vjp)
    if len(grads) != arrays:
        got = f"{len(grads)} gradient{'s' * (len(grads) != 1)}"
        raise work.wrong(f"the vjp returns {got}: expected {arrays}, one per array", "integers have None in their place", vjp)
    for name, x, g in zip(names, each.args, grads, strict=False):
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            work.expect(g is None, f"the gradient of {name} is not None", "integers have no gradient", vjp)
        elif np.shape(g) != x.shape:
            cause = _of_one_within(work, vjp, dy) or _swapped(name, dict(zip(names, each.args, strict=False)), grads) or _shapes(g, x)
            raise work.wrong(f"the gradient of {name} has shape {np.shape(g)}: expected {x.shape}, that of {name} ({shown})", cause, vjp)
    floating = [g for g in grads if isinstance(g, np.ndarray) and g.dtype.kind == "f"]
    doubled = [g for g in vjp(2 * dy) if isinstance(g, np.ndarray) and g.dtype.kind == "f"]
    if any(np.array_equal(a, b) and a.any() for a, b in zip(floating, doubled, strict=False)):
        raise work.wrong("the vjp returns the same for dy and for 2 dy", "dy is not used: every gradient is proportional to it", vjp)


def _of_one_within(work: Work, function: Any, *args: Any, **settings: Any) -> str:
    """Returns the words about a variable of a function that is a tuple of one array, "" if there is none."""
    found: list[str] = []

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "return" and frame.f_code is getattr(function, "__code__", None):
            found.extend(name for name, x in frame.f_locals.items() if is_of_one(x))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        function(*args, **settings)
    finally:
        sys.setprofile(before)
    return of_one(found[0], work.tree()) if found else ""


def _swapped(name: str, args: Mapping[str, Any], grads: Sequence[Any]) -> str:
    """Returns the words about gradients in the wrong order: this one has the shape of another argument, and that one not its own."""
    shapes = [np.shape(g) for g in grads]
    mine = shapes[list(args).index(name)]
    for (other, x), shape in zip(args.items(), shapes, strict=False):
        if other != name and np.shape(x) == mine != shape == np.shape(args[name]):
            return f"swapped: this has the shape of {other}; the gradients come in the order of the arguments"
    return ""


def _shapes(g: Any, x: np.ndarray) -> str:
    """Returns why a gradient may have another shape than its argument."""
    if g is None:
        return "it is None: no gradient reaches this argument"
    if is_of_one(g):
        return "it is a tuple of one array, and not the array: a pair of brackets, or a comma, is too much"
    got = np.shape(g)
    if got != x.shape and got == x.shape[::-1]:
        return "transposed" if x.ndim < 3 else "all axes are reversed: .T does that; xp.swapaxes(..., -1, -2) swaps the last two"
    try:
        if np.broadcast_shapes(got, x.shape) == got:
            return "missing un-broadcast: the argument was repeated along these axes, so its gradient is the sum over them (sum_to)"
    except ValueError:
        pass
    return "a sum over too many axes, or without keepdims=True" if len(got) < x.ndim else ""


def _from_report(work: Work, report: Report, args: Mapping[str, Any], shown: str, order: int, body: tuple[Any, Any], known: str) -> Wrong:
    """Returns the exception for a failed check, in the learner's words. body: the shape of its value, and its vjp."""
    names = list(args)

    def worded(text: str) -> str:
        text = text.replace(f"{work.path}:", "line ")
        return re.sub(r"argument (\d+)", lambda m: names[int(m[1])] if int(m[1]) < len(names) else m[0], text)

    shape, vjp = body
    row = (report.failures or report.undecided)[0]
    name, detail = worded(row.name), worded(row.detail) or f"relative error {row.error:.1e}"
    element = re.match(r"worst at (\[.*?\]), output element (\d+): (\S+) by the tape, (\S+) by differences", detail)
    if element and order == 1:
        at = [int(i) for i in np.unravel_index(int(element[2]), shape)]
        y, x = f"y{at}" if at else "y", f"{name}{element[1]}"
        detail = f"∂{y}/∂{x} is {float(element[3]):.6g} by the vjp, {float(element[4]):.6g} by finite differences"
    detail = detail.replace("by the tape", "by the derivative of the vjp")
    what = f"the gradient of {name}" if name in names else name
    return work.wrong(f"{what} is wrong ({shown}): {detail}", known or _in_words(worded(row.cause), args), vjp)


def _in_words(cause: str, args: Mapping[str, Any]) -> str:
    """Returns the checker's cause in the learner's words: without the right code, and of a mere factor what it may be."""
    if number := re.fullmatch(r"a factor of (-?[\d.e+-]+)(, which is .*)?", cause):
        return f"a factor of {named_factor(float(number[1]), args)}"
    term = re.fullmatch(r"wrong term: what flows back through (.*) at (line \d+) (has .*)", cause)
    if term:
        return f"in the vjp, the term that comes from {term[1]} in {term[2]} {term[3]}"
    return "this gradient is 0 everywhere" if cause.startswith("detached,") else without_repair(cause)


def _in_torch(name: str, each: Call) -> tuple[np.ndarray, list[Any]]:
    """Returns the value by PyTorch, and the gradients under a random cotangent, None for what has none."""
    from tinylm.verify.torch.reference import in_torch, torch_reference

    args = [in_torch(a, "float64") for a in each.args]
    y = torch_reference(name)(*args, **each.settings)
    y.backward(in_torch(normal(*y.shape, seed=1), "float64").detach())
    return y.numpy(force=True), [a.grad.numpy() if a.requires_grad else None for a in args]


def _in_tinylm(expected: Callable[..., Any], each: Call) -> tuple[np.ndarray, list[Any]]:
    """Returns the same by the function that gives the right value."""
    args = [_variable(a) for a in each.args]
    y = expected(*args, **each.settings)
    y.backward(normal(*y.shape, seed=1))
    return y.numpy(), [a.grad if isinstance(a, Tensor) else None for a in args]


def _variable(a: Any) -> Any:
    return Tensor(a.copy(), requires_grad=True) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a


def _parity(work: Work, function: Any, each: Call, names: Sequence[str], right: tuple[np.ndarray, list[Any]]) -> None:
    """Compares value and gradients, under the same random cotangent, with those of another implementation."""
    args = [_variable(a) for a in each.args]
    y = function(*args, **each.settings)
    shown = described(names, each.args, each.settings)
    compare(work, f"{function.op.name}({shown})", y, right[0], where=function)
    y.backward(normal(*y.shape, seed=1))
    for name, x, gradient in zip(names, args, right[1], strict=False):
        if gradient is not None:
            compare(work, f"the gradient of {name} ({shown})", x.grad, gradient, where=function)
