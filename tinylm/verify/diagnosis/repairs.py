"""Finds the place of a mistake in a vjp: a small edit of its source that makes the gradient right.

The body of the op is parsed, and one expression of its vjp is changed at a time: another variable or constant, another operator,
a missing factor, a transposed operand. The changed body runs on the same arrays; nothing of the user's is touched. An edit counts
only if the gradient is then right for every cotangent and at a second point as well, so that no edit fits by accident.
"""

import ast
import contextlib
import inspect
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType
from typing import Any

import numpy as np

from tinylm.engine.autograd import nodes
from tinylm.engine.tensor import Tensor
from tinylm.verify.diagnosis.edit_texts import edit_text
from tinylm.verify.diagnosis.evidence import Evidence

_EXACT = 1e-6  # of the gradient, and at most a thousandth of the error
_MOST = 2000  # edits
_UNSAFE = (ast.Import, ast.ImportFrom, ast.With, ast.While, ast.Try, ast.Global, ast.Nonlocal, ast.Delete, ast.Yield, ast.Await)
_OTHERS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
_COMPARED = {ast.Gt: ast.Lt, ast.Lt: ast.Gt, ast.GtE: ast.LtE, ast.LtE: ast.GtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
_CALLS = {"sum": "mean", "mean": "sum", "sin": "cos", "cos": "sin", "maximum": "minimum", "minimum": "maximum", "argmax": "argmin",
          "argmin": "argmax", "correlate": "convolve", "convolve": "correlate", "tril": "triu", "triu": "tril"}  # fmt: skip


def repaired(e: Evidence) -> str | None:
    """Names the first edit that makes the gradient right; None for an op without readable source, or if there is no such edit."""
    made = nodes(e.y)[:-1]  # without the op that joins the outputs
    if len(made) != 1 or e.problem.dtype != "float64" or made[0].op.sequence or not isinstance(made[0].op.body, FunctionType):
        return None
    node, x = made[0], e.problem.xs[e.k]
    position = next((i for i, p in enumerate(node.parents) if p is x), None)
    source = _Source.of(node.op.body)
    if position is None or source is None:
        return None
    run = _Run(node, position)
    plain = run.gradients(source.compiled(), e)
    if plain is None or np.abs(plain - e.wrong).max() > _EXACT * np.abs(e.wrong).max():
        return None  # a kernel ran, or the body depends on more than its arguments
    moved: tuple[np.ndarray, np.ndarray] | None = None
    for count, edit in enumerate(source.edits()):
        if count == _MOST:
            return None
        changed = source.compiled()
        found = None if changed is None else run.gradients(changed, e)
        if found is None or not _close(found, e.right, e):
            continue
        place = moved = moved or _second_point(e)
        again = run.gradients(changed, e, place[0])
        if again is not None and _close(again, place[1], e):
            return f"right with {edit()} ({source.file}:{source.line()})"
    return None


def _close(found: np.ndarray, right: np.ndarray, e: Evidence) -> bool:
    off = np.linalg.norm(found - right)
    return bool(off <= _EXACT * np.linalg.norm(right) and off <= 1e-3 * np.linalg.norm(e.wrong - e.right))


def _second_point(e: Evidence) -> tuple[np.ndarray, np.ndarray]:
    """Returns the argument moved by up to a tenth of each element, and the right gradients there."""
    x = e.problem.xs[e.k]
    start = x.data.copy()
    try:
        x.data[...] = start * np.random.default_rng(1).uniform(0.9, 1.1, start.shape)
        return x.numpy().copy(), e.vjp(e.cotangents, e.problem.measured(e.k))
    finally:
        x.data[...] = start


class _Run:
    """Runs bodies on the arrays of one node."""

    def __init__(self, node: Any, position: int) -> None:
        self.inputs = [a.numpy() if isinstance(a, Tensor) else a for a in node.inputs]
        self.extra, self.settings = node.settings
        self.position = position

    def gradients(self, body: Callable[..., Any] | None, e: Evidence, values: np.ndarray | None = None) -> np.ndarray | None:
        """Returns the gradients of the argument by a body's vjp, one per cotangent; None if it does not run."""
        inputs = [a.copy() if isinstance(a, np.ndarray) else a for a in self.inputs]  # an edited body may write into any of them
        if values is not None:
            inputs[self.position] = values.copy()
        with contextlib.suppress(Exception), np.errstate(all="ignore"):  # an edited body may do anything
            assert body is not None
            _, vjp = body(*inputs, *self.extra, **self.settings)
            found = []
            for c in e.cotangents:
                dys = [c[part].reshape(shape).copy() for part, shape in e.output_parts()]
                before = [dy.copy() for dy in dys]
                g = np.asarray(vjp(*dys)[self.position], np.float64)
                if g.shape != e.point.shape or not all(map(np.array_equal, before, dys)):  # an edit that writes into dy repairs nothing
                    return None
                found.append(g)
            gradients = np.array(found)
            gradients.reshape(len(gradients), -1)[:, e.without] = 0
            return gradients
        return None


class _Source:
    """The parsed source of a body, in which `edits` changes one place after another."""

    def __init__(self, body: FunctionType, tree: ast.Module) -> None:
        self.tree, self.body, self.file = tree, body, body.__code__.co_filename
        self.function: Any = tree.body[0]
        self.vjps = [n for n in ast.walk(self.function) if isinstance(n, ast.FunctionDef | ast.Lambda) and n is not self.function]
        signatures = [n.args for n in ast.walk(self.function) if isinstance(n, ast.FunctionDef | ast.Lambda)]
        local = [a.arg for s in signatures for a in (*s.posonlyargs, *s.args, *s.kwonlyargs)]
        stored = [n.id for n in ast.walk(self.function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
        self.settings = [a.arg for a in signatures[0].kwonlyargs]
        self.names = list(dict.fromkeys([*local, *stored]))
        self.numbers = [*dict.fromkeys(v for v in map(_number, ast.walk(self.function)) if v is not None)]
        self.at: ast.AST = self.function
        free = zip(body.__code__.co_freevars, body.__closure__ or (), strict=True)
        self.globals = {**body.__globals__, **{name: cell.cell_contents for name, cell in free}}

    @staticmethod
    def of(body: FunctionType) -> "_Source | None":
        """Returns the source of a body; None for a lambda, or if it cannot be read or should not be run changed."""
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(body)))
        except (OSError, TypeError, SyntaxError):
            return None
        if not isinstance(tree.body[0], ast.FunctionDef) or any(isinstance(n, _UNSAFE) for n in ast.walk(tree)):
            return None
        tree.body[0].decorator_list = []
        return _Source(body, tree)

    def compiled(self) -> Callable[..., Any] | None:
        """Returns the body as it is written now; None if it cannot be compiled."""
        names = dict(self.globals)
        with contextlib.suppress(Exception):
            exec(compile(ast.fix_missing_locations(self.tree), self.file, "exec"), names)
            made: Callable[..., Any] = names[self.body.__name__]
            made.__kwdefaults__ = self.body.__kwdefaults__
            return made
        return None

    def line(self) -> int:
        """Returns the line of the current edit in the user's file."""
        return self.body.__code__.co_firstlineno + getattr(self.at, "lineno", 1) - 1

    def edits(self) -> Iterator[Callable[[], str]]:
        """Makes one edit after another, each undone before the next, and yields what says it: "`y` instead of `x`"."""
        slots = list(self._slots())
        for instead in (_signed, _without, self._other, self._turned, self._more):  # the plainer edits first
            for parent, field, i, old in slots:
                self.at = old
                for new in instead(old, parent):
                    _put(parent, field, i, new)
                    yield partial(self._said, new, old)
                    _put(parent, field, i, old)
            if instead == self._other:
                yield from self._renamings()

    def _slots(self) -> Iterator[tuple[ast.AST, str, int | None, ast.expr]]:
        """Yields the expressions within the vjps, each with where it hangs; the smaller ones first."""
        seen, found = set[int](), []
        for vjp in self.vjps:
            for parent in ast.walk(vjp):
                for field, value in ast.iter_fields(parent):
                    for i, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
                        if _is_value(child) and id(child) not in seen and field != "func":
                            seen.add(id(child))
                            found.append((parent, field, i, child))
        return iter(sorted(found, key=lambda slot: len(ast.unparse(slot[3]))))

    def _other(self, old: ast.expr, parent: ast.AST) -> Iterator[ast.expr]:
        """Yields other variables, numbers, operators and functions."""
        if isinstance(old, ast.Name) and old.id in self.names:
            yield from (ast.Name(name, ast.Load()) for name in self.names if name != old.id)
        elif (n := _number(old)) is not None:
            yield from (ast.Name(name, ast.Load()) for name in self.settings)
            yield from (ast.Constant(v) for v in dict.fromkeys([*self.numbers, n + 1, n - 1, -n, 2 * n, n / 2]) if v != n)
        elif isinstance(old, ast.BinOp):
            if type(old.op) in (ast.Mult, ast.Div):
                yield ast.BinOp(old.left, _OTHERS[type(old.op)](), old.right)
            if isinstance(old.op, ast.Sub | ast.Div | ast.MatMult):
                yield ast.BinOp(old.right, old.op, old.left)
        elif isinstance(old, ast.Compare) and type(old.ops[0]) in _COMPARED:
            yield ast.Compare(old.left, [_COMPARED[type(old.ops[0])](), *old.ops[1:]], old.comparators)
        elif isinstance(old, ast.Call) and isinstance(old.func, ast.Attribute):
            if old.func.attr in _CALLS:
                yield ast.Call(ast.Attribute(old.func.value, _CALLS[old.func.attr], ast.Load()), old.args, old.keywords)
            if old.func.attr == "where" and len(old.args) == 3:
                yield ast.Call(old.func, [old.args[0], old.args[2], old.args[1]], old.keywords)

    def _turned(self, old: ast.expr, parent: ast.AST) -> Iterator[ast.expr]:
        """Yields the expression transposed, reversed, as the inverse of an order, with another sign, or with a further factor."""
        text = ast.unparse(old)
        if isinstance(old, ast.Name | ast.Attribute | ast.Call) and text not in ("np", "xp"):
            forms = ["({}).T", "({})[::-1]", *(["np.argsort({})"] if text in self.names else [])]
            yield from (_parsed(form.format(text)) for form in forms)
        if isinstance(parent, ast.Tuple | ast.Return | ast.BinOp | ast.Lambda) and not isinstance(old, ast.Tuple):
            factors = [*self.names, *map(repr, self.numbers), "2"]
            yield from (_parsed(form.format(text)) for form in ("-({})", "1 + ({})", "1 - ({})"))
            yield from (_parsed(f"({text}) {sign} {factor}") for sign in "*/" for factor in dict.fromkeys(factors))

    def _more(self, old: ast.expr, parent: ast.AST) -> Iterator[ast.expr]:
        """Yields a running sum from the other end, a variable for a larger expression, and a further term."""
        if isinstance(old, ast.Call) and isinstance(old.func, ast.Attribute) and old.func.attr in ("cumsum", "cumprod"):
            axis = ", ".join(ast.unparse(n) for n in (*old.args[1:], *old.keywords))
            first = f"np.flip({ast.unparse(old.args[0])}, {axis})" if axis else f"{ast.unparse(old.args[0])}[::-1]"
            call = f"{ast.unparse(old.func)}({first}{', ' * bool(axis)}{axis})"
            yield _parsed(f"np.flip({call}, {axis})" if axis else f"{call}[::-1]")
        if isinstance(old, ast.Subscript | ast.BinOp | ast.Call):
            yield from (ast.Name(name, ast.Load()) for name in self.names)
        if isinstance(parent, ast.Tuple | ast.Return | ast.BinOp | ast.Assign | ast.Lambda) and not isinstance(old, ast.Tuple):
            yield from (_parsed(f"({ast.unparse(old)}) + {name}") for name in self.names)

    def _renamings(self) -> Iterator[Callable[[], str]]:
        """Puts another variable, or the value that the body returns, for every occurrence of one in a vjp."""
        value = self._value()
        for vjp in self.vjps:
            self.at = vjp
            used = [n for n in ast.walk(vjp) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load) and n.id in self.names]
            for name in dict.fromkeys(n.id for n in used):
                slots = [s for s in self._slots() if isinstance(s[3], ast.Name) and s[3].id == name]
                others: list[ast.expr] = [ast.Name(other, ast.Load()) for other in self.names if other != name]
                for new in [*others, *([value] if value else []), _parsed(f"1 - {name}")]:
                    for parent, field, i, _ in slots:
                        _put(parent, field, i, new)
                    yield partial(self._said, new, ast.Name(name))
                    for parent, field, i, old in slots:
                        _put(parent, field, i, old)

    def _said(self, new: ast.expr, old: ast.expr) -> str:
        """Returns "`new` instead of `old`"; of a number, also that the forward pass has it."""
        within = {id(n) for vjp in self.vjps for n in ast.walk(vjp)}
        forward = [_number(n) for n in ast.walk(self.function) if id(n) not in within]
        known = ", which the forward pass has" if _number(new) is not None and _number(new) in forward else ""
        return f"{edit_text(new, old)}{known}"

    def _value(self) -> ast.expr | None:
        """Returns the expression of the value that the body returns, if that is not a variable."""
        for statement in self.function.body:
            if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Tuple) and len(statement.value.elts) == 2:
                value = statement.value.elts[0]
                return None if isinstance(value, ast.Name) else value
        return None


def _is_value(node: Any) -> bool:
    """True for an expression that may stand anywhere: not for a:b in an index, *args, or what is assigned to."""
    return (
        isinstance(node, ast.expr)
        and not isinstance(node, ast.Slice | ast.Starred)
        and not isinstance(getattr(node, "ctx", None), ast.Store)
    )


def _signed(old: ast.expr, parent: ast.AST) -> Iterator[ast.expr]:
    """Yields a sum for a difference, and a difference for a sum."""
    if isinstance(old, ast.BinOp) and isinstance(old.op, ast.Add | ast.Sub):
        yield ast.BinOp(old.left, _OTHERS[type(old.op)](), old.right)


def _without(old: ast.expr, parent: ast.AST) -> Iterator[ast.expr]:
    """Yields the expression without a part of it; of several numbers, such as axes, each alone."""
    if isinstance(old, ast.BinOp):
        yield from (old.left, old.right)
    elif isinstance(old, ast.Tuple) and all(_number(_operand(n)) is not None for n in old.elts):
        yield from old.elts
    elif isinstance(old, ast.UnaryOp):
        yield old.operand
    elif isinstance(old, ast.Subscript) or (isinstance(old, ast.Attribute) and old.attr == "T"):
        yield old.value


def _operand(node: ast.expr) -> ast.expr:
    """Returns n of -n, else the node itself."""
    return node.operand if isinstance(node, ast.UnaryOp) else node


def _put(parent: ast.AST, field: str, i: int | None, node: ast.expr) -> None:
    if i is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[i] = node


def _number(node: ast.AST) -> int | float | None:
    """Returns the number that a node is; None for anything else."""
    return (
        node.value if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool) else None
    )


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body
