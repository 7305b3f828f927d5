"""A learner's file while it is marked: its functions, the steps that it has passed, and what is wrong with it."""

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any


class Wrong(Exception):
    """What a marker found: the step that failed, the finding, the likely cause ("" if none is known), and the line (0: none)."""

    def __init__(self, step: str, finding: str, cause: str = "", line: int = 0) -> None:
        super().__init__(step, finding, cause, line)
        self.step, self.finding, self.cause, self.line = step, finding, cause, line


class Work:
    """What a marker gets: `module` is the learner's file, executed."""

    def __init__(self, path: Path, module: ModuleType) -> None:
        self.path, self.module = path, module
        self.passed: list[str] = []
        self.slips: dict[str, str] = {}  # by words of an exception, what leads to it in this exercise
        self.step = "it can be called"  # what is being looked at: the marker sets it with `begin`

    def begin(self, step: str) -> None:
        """Names what is looked at next. What was looked at before has passed."""
        if step == self.step:
            return
        self.finish()
        self.step = step

    def finish(self) -> None:
        """Notes that the step has passed."""
        if self.step not in self.passed and self.step != "it can be called":
            self.passed.append(self.step)

    def get(self, name: str) -> Any:
        """Returns what the file defines under a name. Raises Wrong if it defines nothing under it."""
        if not hasattr(self.module, name):
            raise Wrong("the names", f"the file defines no {name!r}: keep the names that it came with")
        return getattr(self.module, name)

    def tree(self) -> ast.Module:
        """Returns the learner's file, parsed."""
        return ast.parse(self.path.read_text(encoding="utf-8-sig"))

    def value(self, node: ast.expr) -> Any:
        """Returns what a global name of the file, or an attribute of one, stands for; None if that is not known."""
        if isinstance(node, ast.Attribute):
            return getattr(self.value(node.value), node.attr, None)
        return vars(self.module).get(node.id) if isinstance(node, ast.Name) else None

    def wrong(self, finding: str, cause: str = "", where: Any = None) -> Wrong:
        """Returns the exception for the current step; where: a function of the file, whose first line is named."""
        return Wrong(self.step, finding, cause, self.line_of(where))

    def line_of(self, function: Any) -> int:
        """Returns the line in the learner's file where a function (an op, a class) begins; 0 if it is not in this file."""
        function = getattr(getattr(function, "op", None), "body", function)
        code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
        if code is not None:
            return int(code.co_firstlineno) if code.co_filename == str(self.path) else 0
        if inspect.isclass(function):
            methods = [self.line_of(f) for f in vars(function).values() if inspect.isfunction(f)]
            return min((line for line in methods if line), default=0)
        return 0

    def expect(self, holds: bool, finding: str, cause: str = "", where: Any = None) -> None:
        """Raises Wrong with the finding unless it holds."""
        if not holds:
            raise self.wrong(finding, cause, where)


Marker = Callable[[Work], None]
