"""Says what leads to an exception in the body of an op or its vjp: tensors and arrays mixed up, in-place writes, and shapes."""

import ast
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.engine.arrays import array_module
from tinylm.learn.scene import Scene

_LIKE = {"zeros", "ones", "full", "empty"}  # functions of a shape
_REDUCTIONS = {"sum", "max", "min", "mean", "var", "std", "prod", "amax", "amin", "logsumexp"}


def is_of_one(x: Any) -> bool:
    """True if x is a tuple or list of one array."""
    return isinstance(x, tuple | list) and len(x) == 1 and hasattr(x[0], "shape")


def of_one(name: str, tree: ast.AST) -> str:
    """Returns the words about a variable that is a tuple of one array. tree: the learner's file."""
    for n in (n for n in ast.walk(tree) if isinstance(n, ast.Assign)):
        alone = isinstance(n.value, ast.Tuple) and len(n.value.elts) == 1
        if alone and any(isinstance(t, ast.Name) and t.id == name for t in n.targets):
            return f"the comma at the end of line {n.end_lineno} makes `{name}` a tuple of one array: leave it out"
    return f"`{name}` is a tuple of one array: a comma on the left side takes the array out of it, {name}, = ..."


def in_a_body(scene: Scene, said: str) -> str:
    """Returns what leads to an exception of the body or the vjp, apart from shapes; "" if nothing is known or it is elsewhere."""
    if not scene.in_op:
        return ""
    for hint in (_in_place, _of_tensors, _no_attribute, _unknown_name, _called_an_op):
        if found := hint(scene, said):
            return found
    return "the power is written **: x**2 (^ is the exclusive or of bits)" if re.search(r"bitwise_xor|for \^", said) else ""


def constant(scene: Scene) -> str:
    """Returns what to do instead of an in-place write into a value that depends on the arguments."""
    first = _first_argument(scene)
    return (
        f"make a NumPy array that does not depend on the arguments, such as np.zeros({first}.shape, {first}.dtype), write into that, "
        "and combine the two with + or *"
    )


def _first_argument(scene: Scene) -> str:
    """Returns the name of the op's first argument."""
    whole = scene.whole()
    return whole.args.posonlyargs[0].arg if whole is not None and whole.args.posonlyargs else "x"


def writes_in_place(scene: Scene) -> bool:
    """True if the op writes into elements of a variable, as in p[rows, targets] -= 1."""
    whole = scene.whole()
    nodes = list(ast.walk(whole)) if whole is not None else []
    targets = [t for n in nodes for t in (n.targets if isinstance(n, ast.Assign) else [n.target] if isinstance(n, ast.AugAssign) else [])]
    return any(isinstance(t, ast.Subscript) for t in targets)


def _in_place(scene: Scene, said: str) -> str:
    if "in-place write" not in said:
        return ""
    return f"for second derivatives the body runs on tensors, which cannot be written into: {constant(scene)}"


def _of_tensors(scene: Scene, said: str) -> str:
    """A method of tensors, such as .detach(), of an array."""
    found = re.search(r"'numpy\.ndarray' object has no attribute '(\w+)'", said)
    if found is None or found[1] not in ("detach", "numpy", "clone", "cpu", "requires_grad", "grad", "backward"):
        return ""
    start = f"the body runs on arrays, which have no .{found[1]}"
    if writes_in_place(scene):
        return f"{start}, and for second derivatives on tensors, which cannot be written into: {constant(scene)}"
    return f"{start}: leave it out"


def _no_attribute(scene: Scene, said: str) -> str:
    """What arrays and NumPy have, and tensors and tinylm's ops have not."""
    if not re.search("('Tensor' object|'tinylm.ops'|'tinylm') has no attribute", said) or "as in NumPy" in said:
        return ""
    name = re.findall(r"has no attribute '(\w+)'", said)[0]
    if name in _LIKE | {"eye", "tri", "linspace", "arange"}:
        call = next((c for c in scene.calls() if isinstance(c.func, ast.Attribute) and c.func.attr == name), None)
        given = [*call.args, *call.keywords] if call is not None else []
        args = [ast.unparse(a) for a in given]
        if args and name in _LIKE and len(args) == 1 + (name == "full"):  # no number type is given
            args.append(f"{args[0].removesuffix('.shape') if args[0].endswith('.shape') else _first_argument(scene)}.dtype")
        return f"a constant comes from NumPy: np.{name}({', '.join(args)})"
    if writes_in_place(scene) and name in ("copy", "array", "asarray", "put", "add", "itemset", "fill"):
        return f"for second derivatives the body runs on tensors, which cannot be written into: {constant(scene)}"
    more = "" if writes_in_place(scene) else " (x * 1 is a copy)"
    return f"for second derivatives the body runs on tensors, which have few of NumPy's methods and functions: write it with others{more}"


def _unknown_name(scene: Scene, said: str) -> str:
    """A function that xp has, called by its bare name or by NumPy's."""
    if found := re.search(r"name '(\w+)' is not defined", said):
        name = found[1]
        called = [c.func.attr for c in scene.calls() if isinstance(c.func, ast.Attribute) and ast.unparse(c.func.value) == "np"]
        name = next((c for c in called if hasattr(ops, c)), name) if name == "np" else name
    elif found := re.search(r"module '(?:numpy|scipy|math)' has no attribute '(\w+)'", said):
        name = found[1]
    else:
        return ""
    return f"in the body of an op take functions from xp, the NumPy of its arguments: xp.{name}" if hasattr(ops, name) else ""


def _called_an_op(scene: Scene, said: str) -> str:
    """An op called within a body, where it makes tensors of arrays."""
    return called_an_op(scene.whole(), scene.value) if re.search("__array_ufunc__|NumPy would lose|Tensor|unpack", said) else ""


def called_an_op(whole: ast.AST | None, value: Any) -> str:
    """Returns the words about the first call of an op in a body; value: from an expression, what it stands for."""
    for call in ast.walk(whole) if whole is not None else ():
        function = value(call.func) if isinstance(call, ast.Call) else None
        if isinstance(call, ast.Call) and hasattr(function, "op") and not isinstance(function, ModuleType):
            name, last = ast.unparse(call.func), ast.unparse(call.func).rpartition(".")[2]
            if hasattr(array_module(np.ones(1)), last):
                return f"{name} (line {call.lineno}) makes a tensor: within the body of an op call xp.{last}"
            args = ", ".join(ast.unparse(a) for a in call.args)
            return f"{name}({args}) (line {call.lineno}) makes a tensor: within a body, {name}.op.body({args}) gives the value and its vjp"
    return ""


def where_it_is_a_matter_of_shapes(scene: Scene, said: str) -> str:
    """Returns what leads to shapes that do not fit; "" if the exception is about something else."""
    if scene.frame is None or not re.search("core dimension|could not be broadcast|do not fit|cannot be multiplied|matmul", said):
        return ""
    if found := _wrong_axes(scene):
        return found
    return _broadcast(scene) if "could not be broadcast" in said else ""


def _near(scene: Scene) -> list[ast.AST]:
    """Returns the nodes of the function that failed, those of the line first."""
    code = scene.trace.tb_frame.f_code if scene.trace is not None else None
    functions = [n for n in ast.walk(scene.tree) if isinstance(n, ast.FunctionDef | ast.Lambda)]
    inner = [n for n in functions if n.lineno <= scene.line <= (n.end_lineno or 0)]
    whole = [n for n in inner if code is not None and getattr(n, "name", "") == code.co_name] or inner[:1]
    return sorted((n for f in whole for n in ast.walk(f) if hasattr(n, "lineno")), key=lambda n: n.lineno != scene.line)


def _wrong_axes(scene: Scene) -> str:
    """A .T, a transpose without axes or a swapaxes, of an array with more than two axes, that leaves the last two as they are."""
    for node in _near(scene):
        of, two = None, False
        if isinstance(node, ast.Attribute) and node.attr == "T":
            of = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.keywords:
            if node.func.attr == "transpose":
                of = node.args[0] if len(node.args) == 1 else None if node.args else node.func.value
            elif node.func.attr == "swapaxes" and len(node.args) >= 2 and scene.in_op:
                of, two = node.args[0] if len(node.args) == 3 else node.func.value, True
        if of is None:
            continue
        x = scene.value(of)
        if two and x is None and getattr(node, "lineno", 0) != scene.line:
            continue
        known = [getattr(a, "ndim", 0) for a in (scene.variables().values() if x is None else [x])]
        ndim = max((n for n in known if isinstance(n, int)), default=0)  # xp itself has an ndim, a function
        if ndim > 2 and not (two and _last_two(node, ndim)):
            name, does = ast.unparse(of), "reverses every axis of {}, the leading ones as well"
            does = "swaps a leading axis of {}" if two else does
            return f"{ast.unparse(node)} {does.format(name)}: xp.swapaxes({name}, -1, -2) swaps the last two"
    return ""


def _last_two(node: ast.AST, ndim: int) -> bool:
    """True if a swapaxes swaps the last two axes of so many, or if that cannot be told."""
    try:
        axes = {int(ast.literal_eval(a)) % ndim for a in node.args[-2:]} if isinstance(node, ast.Call) else set()
    except (ValueError, TypeError):
        return True
    return axes == {ndim - 1, ndim - 2}


def _broadcast(scene: Scene) -> str:
    """Returns why two arrays do not fit element by element: by what stands in the line."""
    called = [ast.unparse(c.func) for c in scene.calls()]
    for name in called if scene.in_op else ():
        if name.rpartition(".")[2] in ("outer", "diag"):
            return f"{name} is made for one vector; here each row stands for itself: products, and sums along axis=-1 with keepdims=True"
    if called and called[0].endswith("vjp") and not scene.own:
        return f"{called[0]} takes the gradient of the value that came with it, and so an array of that value's shape"
    for node in _near(scene) if scene.in_op else ():
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            x = scene.value(node.value.value)
            if ast.unparse(node.slice) in ("0", "1") and getattr(x, "ndim", 0) > int(ast.unparse(node.slice)) + 2:
                at = ast.unparse(node.value)
                return f"{ast.unparse(node)} is the length of a leading axis: those of the last two are {at}[-2] and {at}[-1]"
    product = any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mult) for n in _in_line(scene))
    if scene.own and scene.in_op and product and _multiplies_matrices(scene):
        return "`*` multiplies element by element: a matrix product is xp.matmul"
    fits = "shapes are lined up at their last axes"
    if any(isinstance(n, ast.Call) and _reduces(n) for n in _in_line(scene)) or _reduced(scene):
        return f"{fits}; a sum or maximum with keepdims=True keeps its axis, with length 1"
    return f"{fits}: from the right, two lengths must be the same, or one of them 1"


def _in_line(scene: Scene) -> Iterator[ast.AST]:
    return (n for n in _near(scene) if getattr(n, "lineno", 0) <= scene.line <= getattr(n, "end_lineno", 0))


def _reduces(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr in _REDUCTIONS


def _reduced(scene: Scene) -> bool:
    """True if a variable of the line is a sum, maximum or the like without keepdims=True."""
    whole = scene.whole()
    for n in ast.walk(whole) if whole is not None else ():
        if isinstance(n, ast.Assign) and isinstance(n.value, ast.Call) and _reduces(n.value) and isinstance(n.targets[0], ast.Name):
            name, given = n.targets[0].id, [k.arg for k in n.value.keywords]
            if name in scene.variables() and "keepdims" not in given:
                return True
    return False


def _multiplies_matrices(scene: Scene) -> bool:
    """True if the line stands in the vjp of a product of two matrices: the op itself calls matmul or uses @, and no sum."""
    whole = scene.whole()
    nodes = list(ast.walk(whole)) if whole is not None else []
    calls = [n for n in nodes if isinstance(n, ast.Call)]
    products = any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.MatMult) for n in nodes)
    return (products or any(ast.unparse(c.func).endswith("matmul") for c in calls)) and not any(_reduces(c) for c in calls)
