"""Says an edit of a vjp's source: what stands there instead of what."""

import ast

_SHOWN = 60  # characters of an expression
_SIGNS = {ast.Add: "+", ast.Sub: "-"}


def edit_text(new: ast.expr, old: ast.expr) -> str:
    """Returns "`new` instead of `old`"; of a long sum with another sign at its end, only that end, which would not be seen."""
    if isinstance(new, ast.BinOp) and isinstance(old, ast.BinOp) and len(ast.unparse(old)) > _SHOWN:
        signs = _SIGNS.get(type(new.op)), _SIGNS.get(type(old.op))
        if all(signs) and ast.unparse(new.left) == ast.unparse(old.left):
            return f"`{signs[0]} {_text(new.right)}` instead of `{signs[1]} {_text(old.right)}`"
    return f"`{_text(new)}` instead of `{_text(old)}`"


def _text(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
