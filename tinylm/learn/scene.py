"""Where an exception came from in a learner's file: the line, the variables that stand there, the calls, and what they stand for."""

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any


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

    @property
    def in_op(self) -> bool:
        """True if the line stands in the body of an op, or in its vjp."""
        return self.frame is not None and not {"xp", "dy"}.isdisjoint(self.frame.f_locals)

    def whole(self) -> ast.FunctionDef | None:
        """Returns the outermost function around the line: of an op, its body with the vjp in it."""
        around = [n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef) and n.lineno <= self.line <= (n.end_lineno or 0)]
        return min(around, key=lambda n: n.lineno, default=None)

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
