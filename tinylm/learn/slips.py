"""Says what often leads to an exception in a learner's file: from its words, the line, and the variables that stand there."""

import ast
import builtins
import re
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

from tinylm import nn, ops
from tinylm.engine.op_errors import SETTINGS

OFTEN = {  # words of an exception: what often leads to it
    "__array_ufunc__|NumPy would lose": (
        "tensors and NumPy's own functions were mixed: in the body of an op everything comes from xp, such as xp.exp "
        "(np.exp takes no tensor, and tinylm.exp makes one of an array)"
    ),
    "in-place write": (
        "for second derivatives the body runs on tensors, which cannot be written into: make a NumPy array that does not "
        "depend on the arguments, write into that, and combine the two with + or *"
    ),
    "'dy' is not defined": "dy is known within vjp only; return the function itself: return y, vjp",
    "each axis once|axes don't match|transpose\\(\\) takes": (
        "transpose takes all axes in their new order: x.swapaxes(1, 2) swaps two of them, and in the body of an op xp.swapaxes(x, -1, -2) "
        "the last two"
    ),
    "core dimension": "the lengths that are summed over differ: a transposition is missing, or the factors stand in the wrong order",
    "could not be broadcast": "shapes are lined up at their last axes; a sum or maximum with keepdims=True keeps its axis, with length 1",
    "0-dimensional arrays|Python scalar": "the functions of math take numbers, those of xp take arrays",
    "is not callable": "a comma or an operator is missing between two brackets",
    "'np' is not defined": "in the body of an op take functions from xp, the NumPy of its arguments; for constants, import numpy as np",
    "'list' object cannot be interpreted as an integer": "several axes are given as a tuple: axis=tuple(axes)",
    "duplicate value in 'axis'": "one axis is named twice: with new axes in front, axis i of the smaller shape is axis i + front of x",
}
_KEYWORDS = {**SETTINGS, "is_causal": "causal"}
_VALUES = {"size": "x.shape has the lengths", "shape": "", "ndim": "", "T": "", "dtype": ""}


class Scene:
    """Where an exception came from: the innermost frame of the learner's file, and the expression that failed there."""

    def __init__(self, error: BaseException, path: Path, text: str) -> None:
        self.error, self.path, self.tree = error, path, ast.parse(text)
        found = learners(error, path)
        self.trace: TracebackType | None = found[-1] if found else None
        self.own = self.trace is not None and self.trace.tb_next is None  # the line itself raised it, and nothing that it called
        self.frame: FrameType | None = self.trace.tb_frame if self.trace else None
        self.line = self.trace.tb_lineno if self.trace else 0
        lines = text.splitlines()
        self.source = lines[self.line - 1] if 0 < self.line <= len(lines) else ""

    def variables(self) -> dict[str, Any]:
        """Returns the local variables that the line names, in its order."""
        words = dict.fromkeys(re.findall(r"[A-Za-z_]\w*", self.source))
        known = self.frame.f_locals if self.frame is not None else {}
        return {word: known[word] for word in words if word in known}

    def calls(self) -> Iterator[ast.Call]:
        """Yields the calls in the line, the one that failed first."""
        at = None
        if self.trace is not None:
            at = list(self.trace.tb_frame.f_code.co_positions())[self.trace.tb_lasti // 2]
        found = [n for n in ast.walk(self.tree) if isinstance(n, ast.Call) and n.lineno <= self.line <= (n.end_lineno or n.lineno)]
        yield from sorted(found, key=lambda n: (n.lineno, n.end_lineno, n.col_offset, n.end_col_offset) != at)

    def value(self, node: ast.expr) -> Any:
        """Returns what a name, or an attribute of one, stands for; None if that is not known."""
        if isinstance(node, ast.Name) and self.frame is not None:
            for names in (self.frame.f_locals, self.frame.f_globals, vars(builtins)):
                if node.id in names:
                    return names[node.id]
        if isinstance(node, ast.Attribute) and (owner := self.value(node.value)) is not None:
            return getattr(owner, node.attr, None)
        return None


def learners(error: BaseException, path: Path) -> list[TracebackType]:
    """Returns the entries of the learner's file in the traceback, the innermost last; those of the cause if there are none."""
    found, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            found.append(trace)
        trace = trace.tb_next
    return found or (learners(error.__cause__, path) if error.__cause__ is not None else [])


def finding_and_cause(error: Exception, path: Path, text: str, slips: Mapping[str, str]) -> tuple[str, str]:
    """Returns the exception as one line, with the shapes in its line, and what often leads to it ("" if nothing is known).

    slips: by words of an exception, what leads to it in this exercise.
    """
    scene = Scene(error, path, text)
    if "create_graph=True runs" in str(error):
        return _second_order(scene)
    said = re.sub(r" \(\S+\.py:\d+\)", "", str(error))  # the line of the marker's own call
    found = "the shapes of the two matrices do not fit" if "core dimension" in said else f"{type(error).__name__}: {said}"
    shapes = [f"{name} {tuple(x.shape)}" for name, x in scene.variables().items() if isinstance(getattr(x, "shape", None), tuple)]
    if shapes:
        found += f" (in this line: {', '.join(shapes)})"
    return found, _hint(scene, slips)


def _hint(scene: Scene, slips: Mapping[str, str]) -> str:
    said = str(scene.error)
    place = traceback.extract_tb(scene.error.__traceback__)[-1]
    if place.name == "sum_to" and Path(place.filename).name == "arrays.py":
        return "sum_to takes an array and a shape: sum_to(dy, b.shape)"
    for hint in (_tuple_of_one, _keyword, _reversed_axes, _nothing, _arguments, _no_method, _no_attribute, _shape_wanted):
        if found := hint(scene, said):
            return found
    return next((hint for words, hint in [*slips.items(), *OFTEN.items()] if re.search(words, said)), "")


def _tuple_of_one(scene: Scene, said: str) -> str:
    return next((of_one(name) for name, x in scene.variables().items() if is_of_one(x)), "")


def is_of_one(x: Any) -> bool:
    """True if x is a tuple or list of one array."""
    return isinstance(x, tuple | list) and len(x) == 1 and hasattr(x[0], "shape")


def of_one(name: str) -> str:
    """Returns the words about a variable that is a tuple of one array."""
    return f"`{name}` is a tuple of one array: a comma on the left side takes the array out of it, {name}, = ..."


def _keyword(scene: Scene, said: str) -> str:
    found = re.search(r"unexpected keyword argument '(\w+)'", said)
    if found is None or found[1] not in _KEYWORDS or "it is called" in said:
        return ""
    names = [k for call in scene.calls() for k in (w.arg for w in call.keywords) if k in _KEYWORDS] or [found[1]]
    changed = [f"{k}= is called {_KEYWORDS[k]}=" for k in dict.fromkeys(names) if k is not None]
    return f"as in NumPy: {', '.join(changed)}" if found[1] != "is_causal" else f"here {', '.join(changed)}"


def _reversed_axes(scene: Scene, said: str) -> str:
    """A .T, or a transpose without axes, of an array with more than two axes."""
    if scene.frame is None or not re.search("core dimension|could not be broadcast|do not fit|cannot be multiplied|matmul", said):
        return ""
    code = scene.frame.f_code
    functions = [n for n in ast.walk(scene.tree) if isinstance(n, ast.FunctionDef | ast.Lambda)]
    inner = [n for n in functions if n.lineno <= scene.line <= (n.end_lineno or 0)]
    whole = [n for n in inner if getattr(n, "name", "") == code.co_name] or inner[:1]
    nodes = sorted((n for f in whole for n in ast.walk(f) if hasattr(n, "lineno")), key=lambda n: n.lineno != scene.line)
    for node in nodes:
        of = None
        if isinstance(node, ast.Attribute) and node.attr == "T":
            of = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "transpose" and not node.keywords:
            of = node.args[0] if len(node.args) == 1 else None if node.args else node.func.value
        if of is None:
            continue
        x = scene.value(of)
        many = [a.ndim for a in scene.variables().values() if hasattr(a, "ndim")] if x is None else [getattr(x, "ndim", 0)]
        if max(many, default=0) > 2:
            name = ast.unparse(of)
            swapped = f"xp.swapaxes({name}, -1, -2) swaps the last two"
            return f"{ast.unparse(node)} reverses every axis of {name}, the leading ones as well: {swapped}"
    return ""


def _nothing(scene: Scene, said: str) -> str:
    """A None that is used: a function of the file that returns nothing, or a variable that is None."""
    if not re.search("NoneType|is None", said):
        return ""
    for call in scene.calls():
        function = scene.value(call.func)
        function = getattr(function, "op", function)
        if isinstance(function, nn.Module):
            function = type(function).forward
        function = getattr(function, "body", function)
        function = getattr(function, "__func__", function)
        if isinstance(function, FunctionType) and function.__code__.co_filename == str(scene.path):
            line = function.__code__.co_firstlineno
            defined = next((n for n in ast.walk(scene.tree) if isinstance(n, ast.FunctionDef) and n.lineno == line), None)
            if defined is not None and not any(isinstance(n, ast.Return) and n.value is not None for n in ast.walk(defined)):
                return f"{function.__qualname__} (line {line}) returns None: a `return` is missing in it"
    if names := [name for name, x in scene.variables().items() if x is None]:
        return f"`{names[0]}` is None here"
    return "a function that ends without `return` gives None"


def _arguments(scene: Scene, said: str) -> str:
    if "positional argument" not in said or re.search(r"\btranspose\(\)", said):
        return ""
    if scene.own:
        called = next((ast.unparse(call.func) for call in scene.calls()), "the function")
        return f"{called} is called with more or fewer arguments than it takes"
    named = re.match(r"([\w.<>]+)\(\)", said)
    ours = {n.name for n in ast.walk(scene.tree) if isinstance(n, ast.FunctionDef)}
    known = named is not None and scene.trace is None and named[1].rpartition(".")[2] in ours
    return "the function no longer takes the arguments that the task says" if known else ""


def _no_method(scene: Scene, said: str) -> str:
    found = re.search(r"\.(size|shape|ndim|T|dtype)\(", scene.source)
    if found is None or "is not callable" not in said:
        return ""
    more = _VALUES[found[1]]
    return f".{found[1]} is a value and no method: leave the brackets out{f' ({more})' if more else ''}"


def _no_attribute(scene: Scene, said: str) -> str:
    """What arrays have and tensors have not, in the body of an op."""
    in_op = scene.frame is not None and not {"xp", "dy"}.isdisjoint(scene.frame.f_locals)
    if not in_op or not re.search("('Tensor' object|'tinylm.ops'|'tinylm') has no attribute", said) or "as in NumPy" in said:
        return ""
    return (
        "for second derivatives the body runs on tensors, which have few of NumPy's methods and functions: write it with others "
        "(x * 1 is a copy)"
    )


def _shape_wanted(scene: Scene, said: str) -> str:
    call = next((c for c in scene.calls() if isinstance(c.func, ast.Attribute) and c.func.attr == "scatter_add"), None)
    if call is None or "'int' object is not" not in said:
        return ""
    return "the last argument of scatter_add is a shape, a tuple such as (5, 3), and not a number"


def _second_order(scene: Scene) -> tuple[str, str]:
    """Returns finding and cause of a function of NumPy's that was called with tensors."""
    why = "so that the second derivative can be computed"
    for call in scene.calls():
        root: ast.expr = call.func
        while isinstance(root, ast.Attribute):
            root = root.value
        module = scene.value(root)
        if not isinstance(module, ModuleType) or module.__name__.partition(".")[0] not in ("numpy", "scipy"):
            continue
        name, last = ast.unparse(call.func), ast.unparse(call.func).rpartition(".")[2]
        finding = f"{name} takes no tensors, on which body and vjp run for the second derivative"
        if name.endswith("add.at"):
            return finding, f"call xp.scatter_add, {why}: it adds up what meets at one place, as {name} does"
        if last in ("asarray", "array", "float64", "float32", "asanyarray"):
            return finding, f"leave {name} out, {why}: the arguments are arrays or tensors already"
        if hasattr(ops, last):
            return finding, f"call xp.{last}, {why}"
        return finding, f"xp has no {last}: write it with functions that xp has, {why}"
    finding = "a function of NumPy's is called, which takes no tensors, on which body and vjp run for the second derivative"
    return finding, f"call that of xp, such as xp.exp and not np.exp, {why}"
