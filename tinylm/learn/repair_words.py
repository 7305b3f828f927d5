"""Says what kind of change would make a vjp right, and where, without the change itself: that is for the learner to find."""

import ast
import re

_SIGNS, _FACTORS = (ast.Add, ast.Sub), (ast.Mult, ast.Div)


def without_repair(cause: str) -> str:
    """Returns a cause; of one that spells out the right code, "right with `y` instead of `x` (line 19)", the kind and the line."""
    found = re.match(r"right with `(.*?)` instead of `(.*?)`", cause)
    if found is None:
        return cause
    line = re.search(r"\(line (\d+)\)", cause)
    new, old = _parsed(found[1]), _parsed(found[2])
    kind = _kind(new, old) if new is not None and old is not None else ""
    if found[1][:2] + found[2][:2] in ("- + ", "+ - ") and found[1][2:] == found[2][2:]:
        kind = f"the term `{found[2][2:]}` has the wrong sign"
    kind = kind or f"one small change at `{found[2]}` would make it right"
    return f"line {line[1]}: {kind}" if line else kind


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:  # it was too long to be shown as a whole
        return None


def _kind(new: ast.expr, old: ast.expr) -> str:
    """Returns what kind of mistake it is if `new` must stand where `old` stands; "" for one without a name."""
    a, b = ast.unparse(new), ast.unparse(old)
    if isinstance(new, ast.BinOp) and isinstance(old, ast.BinOp):
        same = ast.unparse(new.left) == ast.unparse(old.left) and ast.unparse(new.right) == ast.unparse(old.right)
        if same and isinstance(new.op, _SIGNS) and isinstance(old.op, _SIGNS):
            return f"the term `{ast.unparse(old.right)}` has the wrong sign"
        if same and isinstance(new.op, _FACTORS) and isinstance(old.op, _FACTORS):
            return f"a product and a quotient are mixed up: `{b}`"
        if type(new.op) is type(old.op) and ast.unparse(new.left) == ast.unparse(old.right):
            return f"the two sides of `{b}` are in the wrong order"
    if isinstance(new, ast.UnaryOp) and isinstance(new.op, ast.USub) and ast.unparse(new.operand) == b:
        return f"`{b}` has the wrong sign"
    if isinstance(old, ast.UnaryOp) and isinstance(old.op, ast.USub) and ast.unparse(old.operand) == a:
        return f"`{b}` has the wrong sign"
    if isinstance(old, ast.BinOp) and a in (ast.unparse(old.left), ast.unparse(old.right)):
        return f"a part of `{b}` is too much"
    if isinstance(old, ast.Name) and isinstance(new, ast.Name):
        return f"another variable belongs where `{b}` stands"
    if isinstance(old, ast.Constant):
        return f"another number belongs where `{b}` stands"
    if isinstance(new, ast.BinOp):
        if isinstance(new.op, _FACTORS) and ast.unparse(new.left) == b:
            return f"a factor is missing at `{b}`"
        if isinstance(new.op, _SIGNS) and ast.unparse(new.right) == b:
            return f"a term is missing beside `{b}`"
    if isinstance(new, ast.Call) and isinstance(old, ast.Call) and ast.unparse(new.func) != ast.unparse(old.func):
        return f"another function belongs where `{ast.unparse(old.func)}` stands"
    if isinstance(new, ast.Call) and isinstance(old, ast.Call) and ast.unparse(old.func).endswith("where"):
        return f"the two cases of `{b}` are the wrong way round"
    if isinstance(new, ast.Attribute) and new.attr == "T" and ast.unparse(new.value) == b:
        return f"a transposition is missing at `{b}`"
    if isinstance(old, ast.Attribute) and old.attr == "T" and ast.unparse(old.value) == a:
        return f"a transposition too many: `{b}`"
    if isinstance(old, ast.Subscript) and ast.unparse(old.value) == a:
        return f"an index too many: `{b}`"
    return ""
