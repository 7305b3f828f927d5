"""Says what often leads to an exception in a learner's file: from its words, the line, and the variables that stand there."""

import ast
import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType, ModuleType

from tinylm import nn, ops
from tinylm.engine.op_errors import SETTINGS
from tinylm.learn.op_slips import constant, in_a_body, is_of_one, of_one, where_it_is_a_matter_of_shapes, writes_in_place
from tinylm.learn.scene import Scene

OFTEN = {  # words of an exception: what often leads to it
    "__array_ufunc__|NumPy would lose": (
        "tensors and NumPy's own functions were mixed: in the body of an op everything comes from xp, such as xp.exp "
        "(np.exp takes no tensor, and tinylm.exp makes one of an array)"
    ),
    "'dy' is not defined": "dy is known within vjp only; return the function itself: return y, vjp",
    "each axis once|axes don't match|transpose\\(\\) takes": (
        "transpose takes all axes in their new order: x.swapaxes(1, 2) swaps two of them, and in the body of an op xp.swapaxes(x, -1, -2) "
        "the last two"
    ),
    "core dimension": "the lengths that are summed over differ: a transposition is missing, or the factors stand in the wrong order",
    "0-dimensional arrays|Python scalar": "the functions of math take numbers, those of xp take arrays",
    "is not callable": "a comma or an operator is missing between two brackets",
    "'np' is not defined": "in the body of an op take functions from xp, the NumPy of its arguments; for constants, import numpy as np",
    "'range' object cannot be interpreted as an integer": "several axes are given as a tuple: axis=tuple(range(...))",
    "'list' object cannot be interpreted as an integer": "several axes are given as a tuple: axis=tuple(axes)",
    "duplicate value in 'axis'": "one axis is named twice: with new axes in front, axis i of the smaller shape is axis i + front of x",
}
_KEYWORDS = {**SETTINGS, "is_causal": "causal"}
_VALUES = {"size": "x.shape has the lengths", "shape": "", "ndim": "", "T": "", "dtype": ""}


def finding_and_cause(error: Exception, path: Path, text: str, slips: Mapping[str, str]) -> tuple[str, str]:
    """Returns the exception as one line, with the shapes in its line, and what often leads to it ("" if nothing is known).

    slips: by words of an exception, what leads to it in this exercise.
    """
    scene = Scene(error, path, text)
    if "create_graph=True runs" in str(error):
        return _second_order(scene)
    said = re.sub(r" \(\S+\.py:\d+\)", "", str(error))  # the line of the marker's own call
    if scene.in_op and "in-place write" in said:
        said = said.partition(";")[0]  # what helps elsewhere leads nowhere in an op
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
    for hint in (_tuple_of_one, _keyword, where_it_is_a_matter_of_shapes, _nothing, _arguments, _no_method, in_a_body, _shape_wanted):
        if found := hint(scene, said):
            return found
    return next((hint for words, hint in [*slips.items(), *OFTEN.items()] if re.search(words, said)), "")


def _tuple_of_one(scene: Scene, said: str) -> str:
    return next((of_one(name, scene.tree) for name, x in scene.variables().items() if is_of_one(x)), "")


def _keyword(scene: Scene, said: str) -> str:
    found = re.search(r"unexpected keyword argument '(\w+)'", said)
    if found is None or found[1] not in _KEYWORDS or "it is called" in said:
        return ""
    names = [k for call in scene.calls() for k in (w.arg for w in call.keywords) if k in _KEYWORDS] or [found[1]]
    changed = [f"{k}= is called {_KEYWORDS[k]}=" for k in dict.fromkeys(names) if k is not None]
    return f"as in NumPy: {', '.join(changed)}" if found[1] != "is_causal" else f"here {', '.join(changed)}"


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
        if last in ("array", "copy") and writes_in_place(scene):
            return finding, constant(scene)
        if last in ("asarray", "array", "float64", "float32", "asanyarray"):
            return finding, f"leave {name} out, {why}: the arguments are arrays or tensors already"
        if hasattr(ops, last):
            return finding, f"call xp.{last}, {why}"
        return finding, f"xp has no {last}: write it with functions that xp has, {why}"
    finding = "a function of NumPy's is called, which takes no tensors, on which body and vjp run for the second derivative"
    return finding, f"call that of xp, such as xp.exp and not np.exp, {why}"
