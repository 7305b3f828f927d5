"""Lists the small changes (mutants) of a Python file that its tests should notice.

Operators, comparisons, conditions, constants, slices, arguments and statements are changed, one at a time. Left alone: strings and
what is inside f-strings, messages (of raise and of warn), assertions, annotations, decorators, imports, `__repr__` and `__str__`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

OPERATORS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mod, ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
NEGATED_BY_ITS_OPERATOR = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
PAIRS = "min max, minimum maximum, any all, floor ceil, zeros ones, argmin argmax, less less_equal, greater greater_equal, sin cos"
NAMES = {a: b for pair in PAIRS.split(",") for x, y in [pair.split()] for a, b in ((x, y), (y, x))}
FUNCTIONS_LEFT_ALONE = ("__repr__", "__str__")
SYMMETRIC = ("min", "max", "minimum", "maximum", "isinstance", "hasattr", "getattr")  # or an error in either case
MESSAGES = ("warn", "print", "cast", "TypeVar", "overload")


@dataclass(frozen=True)
class Change:
    """The bytes from start to end become `new`. Tests that execute one of the lines from first to last may notice."""

    line: int
    start: int
    end: int
    new: str
    kind: str
    first: int
    last: int

    def apply(self, source: bytes) -> bytes:
        """Returns the changed file, with as many lines as before."""
        return source[: self.start] + self.new.encode() + source[self.end :]


def changes(source: bytes) -> list[Change]:
    """Returns the changes of a file. Two may give the same file, and few do not compile: is_new tells."""
    return list(Finder(source).within(ast.parse(source)))


def is_new(source: bytes, change: Change) -> bool:
    """Returns whether the changed file compiles and is another program than the file."""
    try:
        return ast.dump(ast.parse(change.apply(source))) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


class Finder:
    def __init__(self, source: bytes):
        self.source = source
        self.starts = [0]
        for line in source.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.lines = (1, len(self.starts))

    def change(self, node: ast.expr | ast.stmt, new: str | ast.expr, kind: str) -> Change:
        start = self.starts[node.lineno - 1] + node.col_offset
        end = self.starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        breaks = "\n" * self.source.count(b"\n", start, end)
        text = f"({ast.unparse(new)}{breaks})" if isinstance(new, ast.expr) else new + breaks
        return Change(node.lineno, start, end, text, kind, *self.lines)

    def within(self, node: ast.AST) -> Iterator[Change]:
        """Yields the changes of a node and of all in it."""
        outer = self.lines
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name in FUNCTIONS_LEFT_ALONE:
                return
            self.lines = (node.lineno, node.end_lineno or 0)  # defaults are computed once, and seen by the calls
            yield from self.all_within([*node.args.defaults, *node.args.kw_defaults])
            yield from self.all_within(node.body)
        elif isinstance(node, ast.ClassDef):
            yield from self.all_within(node.body)
        elif isinstance(node, ast.stmt):
            if outer != (1, len(self.starts)):  # inside a function: the statement, or what stands before its body
                body = getattr(node, "body", None)
                last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno
                self.lines = (node.lineno, last or 0)
            yield from self.of_statement(node)
        elif isinstance(node, ast.Lambda):
            yield from self.all_within([*node.args.defaults, *node.args.kw_defaults, node.body])
        elif isinstance(node, ast.expr) and not isinstance(node, ast.JoinedStr):
            yield from (self.change(node, new, kind) for new, kind in of_expression(node))
            yield from self.of_parts(node)
        elif isinstance(node, ast.comprehension):
            yield from (self.change(test, negation(test), "negated condition") for test in node.ifs if can_be_negated(test))
            yield from self.all_within(ast.iter_child_nodes(node))
        elif isinstance(node, ast.keyword) and node.arg == "strict":  # of zip: an assertion
            return
        elif isinstance(node, ast.Module | ast.keyword | ast.match_case | ast.ExceptHandler | ast.withitem):
            yield from self.all_within(ast.iter_child_nodes(node))
        self.lines = outer

    def all_within(self, nodes: object) -> Iterator[Change]:
        for node in nodes:  # type: ignore[attr-defined]
            if node is not None:
                yield from self.within(node)

    def of_statement(self, node: ast.stmt) -> Iterator[Change]:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.Global | ast.Nonlocal):
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.If | ast.While) and can_be_negated(node.test):
            yield self.change(node.test, negation(node.test), "negated condition")
        if isinstance(node, ast.Return) and node.value is not None and not is_none(node.value):
            yield self.change(node, "return None", "return None")
        if isinstance(node, ast.Continue | ast.Break):
            yield self.change(node, "break" if isinstance(node, ast.Continue) else "continue", "continue or break")
        call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        write = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
        if call or write or isinstance(node, ast.AugAssign | ast.Raise | ast.Delete):
            yield self.change(node, "pass", "statement dropped")
        if isinstance(node, ast.AugAssign):
            target, value = ast.unparse(node.target), ast.unparse(node.value)
            sign = ast.unparse(ast.BinOp(ast.Name("a"), OPERATORS.get(type(node.op), type(node.op))(), ast.Name("b"))).split()[1]
            yield self.change(node, f"{target} {sign}= {value}", "operator")
            yield self.change(node, f"{target} = {value}", "operator")
        if isinstance(node, ast.Raise | ast.Delete) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            return
        hidden = [getattr(node, "annotation", None)]
        yield from self.all_within(part for part in ast.iter_child_nodes(node) if part not in hidden)

    def of_parts(self, node: ast.expr) -> Iterator[Change]:
        if isinstance(node, ast.Call) and last_name(node.func) in MESSAGES:
            return
        if isinstance(node, ast.Slice):
            for bound in (node.lower, node.upper):
                if bound is not None:
                    yield self.change(bound, "", "bound dropped")
                    if not isinstance(bound, ast.Constant | ast.UnaryOp):
                        yield self.change(bound, ast.BinOp(bound, ast.Add(), ast.Constant(1)), "slice + 1")
        yield from self.all_within(ast.iter_child_nodes(node))


def of_expression(node: ast.expr) -> Iterator[tuple[ast.expr, str]]:
    """Yields (what takes the place of an expression, the kind of change)."""
    match node:
        case ast.Compare():
            for i, sign in enumerate(node.ops):
                yield ast.Compare(node.left, [*node.ops[:i], OPERATORS[type(sign)](), *node.ops[i + 1 :]], node.comparators), "comparison"
        case ast.BinOp() if type(node.op) in OPERATORS and not is_text(node.left) and not is_text(node.right):
            yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right), "operator"
        case ast.BoolOp():
            yield ast.BoolOp(OPERATORS[type(node.op)](), node.values), "and or"
            for i in range(len(node.values)):
                rest = node.values[:i] + node.values[i + 1 :]
                yield (ast.BoolOp(node.op, rest) if rest[1:] else rest[0]), "condition dropped"
        case ast.UnaryOp(ast.Not(), inside):
            yield inside, "not removed"
        case ast.UnaryOp(ast.USub(), inside):
            yield inside, "sign removed"
        case ast.Constant(bool(value)):
            yield ast.Constant(not value), "constant"
        case ast.Constant(int(value)):
            yield ast.Constant(value + 1), "constant"
            yield ast.Constant(value - 1), "constant"
        case ast.Constant(float(value)):
            yield ast.Constant(2 * value or 1.0), "constant"
        case ast.IfExp() if can_be_negated(node.test):
            yield ast.IfExp(negation(node.test), node.body, node.orelse), "negated condition"
        case ast.Call():
            a = node.args
            if len(a) > 1 and not any(isinstance(x, ast.Starred) for x in a[:2]) and last_name(node.func) not in SYMMETRIC:
                yield ast.Call(node.func, [a[1], a[0], *a[2:]], node.keywords), "arguments swapped"
            for i in range(len(node.keywords)):
                if node.keywords[i].arg == "strict":
                    continue
                yield ast.Call(node.func, a, node.keywords[:i] + node.keywords[i + 1 :]), "argument dropped"
        case ast.Name(name) if name in NAMES:
            yield ast.Name(NAMES[name]), "name"
        case ast.Attribute(owner, name) if name in NAMES:
            yield ast.Attribute(owner, NAMES[name]), "name"


def negation(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def can_be_negated(test: ast.expr) -> bool:
    """Returns whether no other change negates the condition."""
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return not isinstance(test.ops[0], NEGATED_BY_ITS_OPERATOR)
    return not isinstance(test, ast.UnaryOp | ast.Constant)


def last_name(function: ast.expr) -> str:
    """Returns "max" for np.max."""
    return ast.unparse(function).rsplit(".", 1)[-1]


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str | bytes))


def is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
