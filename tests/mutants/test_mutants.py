"""The mutation tester itself: which changes it makes, that it notices a wrong one, and that an equivalent one survives."""

import dataclasses
import sys
from pathlib import Path

import pytest

from mutants import running
from mutants.changes import Change, changes, is_new


def changed_lines(source: str) -> list[str]:
    """Returns what the changed line says, for each change."""
    code = source.encode()
    texts = [(c, c.apply(code).decode().splitlines()) for c in changes(code) if is_new(code, c)]
    assert all(len(lines) == len(source.splitlines()) for _, lines in texts)
    return sorted({lines[c.line - 1].strip() for c, lines in texts})


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("return a + b", ["return (a - b)", "return None"]),
        ("return a - b * c", ["return (a + b * c)", "return a - (b / c)", "return None"]),
        ("return a < b", ["return (a <= b)", "return None"]),
        ("return a is None", ["return (a is not None)", "return None"]),
        ("return not a", ["return (a)", "return None"]),
        ("x = a and b", ["x = (a or b)", "x = (a)", "x = (b)"]),
        ("x = 3", ["x = (2)", "x = (4)"]),
        ("x = True", ["x = (False)"]),
        ("x = np.max(a, axis=-1)", ["x = (np.max(a))", "x = (np.min)(a, axis=-1)" , "x = np.max(a, axis=(1))", "x = np.max(a, axis=-(0))",
                                    "x = np.max(a, axis=-(2))"]),
        ("x = a[b:]", ["x = a[(b + 1):]", "x = a[:]"]),
        ("f(a, b)", ["(f(b, a))", "pass"]),
        ("if a < b: g()", ["if (a <= b): g()", "if (not a < b): g()", "if a < b: pass"]),
        ("a.b += c", ["a.b -= c", "a.b = c", "pass"]),
        ("raise Error(f'{a + 1} is' + ' too long')", ["pass"]),
        ("x: Literal[1] = f'{a + 1}'", []),
        ("assert a < b", []),
        ("'a text'", []),
    ],
)  # fmt: skip
def test_the_changes_of_a_line(line: str, expected: list[str]) -> None:
    before = ["def f(a: Annotated[int, 1], b, c) -> Literal[2]:", '    """1 + 1."""']
    assert changed_lines("\n".join([*before, f"    {line}", ""])) == sorted(expected)


def test_what_is_left_alone() -> None:
    source = "import os\nclass A:\n    def __repr__(self):\n        return str(self.a + 1)\n"
    assert changed_lines(source) == []


def test_a_change_over_several_lines_keeps_their_number() -> None:
    assert changed_lines("x = f(\n    a,\n    b + 1,\n    key=c,\n)\n")
    (pair,) = (c for c in changes(b"def f():\n    x = 1\n    return g(\n        x\n    )\n") if c.kind == "return None")
    assert (pair.line, pair.first, pair.last) == (3, 3, 5)


CODE = b"""
def half(n, step=1):
    if n > 0:
        return [inner // 2 for inner in range(n, n + 1)][0]
    return 0
"""


@dataclasses.dataclass
class Job:
    change: Change
    limit: float = 60.0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Returns a source tree of one function and one test."""
    copy = tmp_path / "copy"
    for name, text in {
        "pyproject.toml": b"[tool.pytest.ini_options]\naddopts = '-p no:hypothesispytest'\n", "tinylm_half.py": CODE,
        "tests/test_half.py": b"from tinylm_half import half\ndef test_half():\n    assert [half(n) for n in range(4)] == [0, 0, 1, 1]\n",
    }.items():  # fmt: skip
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes(text)
    return copy


def test_a_wrong_change_is_noticed_and_an_equivalent_one_survives(tree: Path) -> None:
    chosen = {c.new: c for c in changes(CODE)}
    jobs = [Job(chosen[new]) for new in ("(inner % 2)", "(n >= 0)")]
    outcomes = {}

    def attempt(job: Job, copy: Path) -> int:
        (copy / "tinylm_half.py").write_bytes(job.change.apply(CODE))
        return running.run_pytest(["tests/test_half.py"], running.Chosen(["tests/test_half.py::test_half"], copy.parent / "failed"), "-x")

    def done(job: Job, outcome: str, seconds: float, copy: Path) -> None:
        outcomes[job.change.new] = outcome

    running.forked(lambda: jobs.pop() if jobs else None, attempt, done, [tree])
    assert outcomes == {"(inner % 2)": "failed", "(n >= 0)": "passed"}
    assert (tree.parent / "failed").read_text(encoding="utf-8") == "tests/test_half.py::test_half\n"


def test_a_child_that_hangs_is_killed(tmp_path: Path) -> None:
    jobs, outcomes = [Job(changes(CODE)[0], limit=0.2)], []
    done = lambda job, outcome, seconds, copy: outcomes.append(outcome)  # noqa: E731
    running.forked(
        lambda: jobs.pop() if jobs else None, lambda job, copy: sys.stdin.close() or __import__("time").sleep(99), done, [tmp_path]
    )
    assert outcomes == ["hang"]


def test_changed_code_is_put_into_the_functions_that_exist(tmp_path: Path) -> None:
    """Not where a default or a constant of the module differs, which were computed at the import."""
    session = running.Session(tmp_path, lambda session: None)
    names: dict[str, object] = {}
    exec(compile(CODE, str(tmp_path / "tinylm" / "half.py"), "exec"), names)
    half = names["half"]
    session.find_functions()
    for change in changes(CODE):
        possible = session.replace("tinylm/half.py", CODE, change.apply(CODE))
        assert possible == (change.line > 2), change
        if change.new == "(inner % 2)":
            assert [half(n) for n in range(4)] == [0, 1, 0, 1]  # type: ignore[operator]


def test_a_recorder_knows_the_lines_of_a_test(tmp_path: Path) -> None:
    recorder = running.Recorder(tmp_path)
    names: dict[str, object] = {}
    exec(compile(CODE, str(tmp_path / "tinylm" / "half.py"), "exec"), names)
    sys.settrace(recorder.trace)
    names["half"](0)  # type: ignore[operator]
    sys.settrace(None)
    assert recorder.lines() == {"tinylm/half.py": 1 << 2 | 1 << 3 | 1 << 5}
    assert recorder.lines() == {}
