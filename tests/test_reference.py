"""The public names: documented, typed, their examples run; and the pages that scripts/reference.py makes of them."""

import ast
import doctest
import importlib
import inspect
import pydoc
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import READABLE, needs_chromium, probed
from script_helpers import command_module, ends_well, fails_with_one_line, script_here

import tinylm
from tinylm import Tensor
from tinylm.engine import tensor

reference = command_module("reference")


def members_of(kind: type) -> Iterator[tuple[str, Any]]:
    """Yields the public methods and properties that a class defines itself."""
    for name, member in vars(kind).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, (property, classmethod, staticmethod))):
            yield f"{kind.__name__}.{name}", getattr(kind, name)


def public_names() -> Iterator[tuple[str, Any]]:
    """Yields every exported class and function of the packages in the reference, and the members of the classes, each once."""
    seen: set[int] = set()
    for package in map(importlib.import_module, reference.PACKAGES):
        here = [name for name, value in vars(package).items() if getattr(value, "__module__", "") == package.__name__ and name[0] != "_"]
        for name in getattr(package, "__all__", here):
            value = getattr(package, name)
            if not inspect.ismodule(value) and callable(value) and id(value) not in seen:
                seen.add(id(value))
                yield f"{package.__name__}.{name}", value
                if isinstance(value, type):
                    yield from members_of(value)


PUBLIC = dict(public_names())


def undocumented(names: dict[str, Any]) -> list[str]:
    """Returns the names without a docstring; one that a dataclass made of its fields is none."""
    made = {
        name: value for name, value in names.items() if isinstance(value, type) and (value.__doc__ or "").startswith(f"{value.__name__}(")
    }
    return [name for name, value in names.items() if not inspect.getdoc(value) or name in made]


def untyped(names: dict[str, Any]) -> list[str]:
    """Returns the functions of which a parameter or the result has no type. Ops have theirs in stubs, see below."""
    found = []
    for name, value in names.items():
        function = value.fget if isinstance(value, property) else value.__init__ if isinstance(value, type) else value
        if hasattr(function, "op") or name.removeprefix("Tensor.") in (*reference.signatures_of_methods(), "T"):
            continue
        if not (inspect.isfunction(function) or inspect.ismethod(function)) or function.__module__ == "typing":
            continue
        signature = inspect.signature(function)
        kinds = [p.annotation for p in signature.parameters.values() if p.name not in ("self", "cls")]
        if inspect.Parameter.empty in (*kinds, signature.return_annotation):
            found.append(name)
    return found


def test_every_public_name_is_documented() -> None:
    assert len(PUBLIC) > 450
    assert undocumented(PUBLIC) == []


def test_every_signature_has_types() -> None:
    assert untyped(PUBLIC) == []


def test_the_stubs_of_ops_and_methods_have_every_type() -> None:
    """tests/test_types.py compares them with the ops themselves."""
    for stub in (Path(tinylm.ops.__file__).with_suffix(".pyi"), Path(tensor.__file__).with_name("tensor_methods.pyi")):
        functions = [node for node in ast.walk(ast.parse(stub.read_text("utf-8"))) if isinstance(node, ast.FunctionDef)]
        assert len(functions) >= 80
        for function in functions:
            parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            assert all(p.annotation is not None or p.arg == "self" for p in parameters), function.name
            assert function.returns is not None, function.name


def test_what_is_undocumented_or_untyped_is_noticed() -> None:
    def bare(x, y: int = 0):  # type: ignore[no-untyped-def]
        return x + y

    def half(x: int):  # type: ignore[no-untyped-def]
        """Returns x."""
        return x

    assert undocumented({"bare": bare, "half": half}) == ["bare"]
    assert untyped({"bare": bare, "half": half}) == ["bare", "half"]


# ---------------------------------------------------------------- examples


def failures(name: str, text: str) -> str:
    """Returns what the examples of a docstring printed that was not expected."""
    names = {"np": np, "tinylm": tinylm}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    return "".join(said)


EXAMPLES = {name: text for name, value in PUBLIC.items() if ">>>" in (text := inspect.getdoc(value) or "")}


def test_the_examples_run() -> None:
    first_used = ("Tensor", "grad", "jacobian", "softmax", "sum", "matmul", "cross_entropy", "embedding", "stack", "concatenate", "arange")
    assert {f"tinylm.{name}" for name in first_used} <= EXAMPLES.keys()
    assert {"Tensor.backward", "tinylm.nn.Sequential", "tinylm.optim.AdamW", "tinylm.data.CharTokenizer"} <= EXAMPLES.keys()
    for name, text in EXAMPLES.items():
        assert failures(name, text) == "", name


def test_a_wrong_example_is_noticed() -> None:
    assert failures("right", ">>> 1 + 1\n2\n") == ""
    assert "Expected" in failures("wrong", ">>> 1 + 1\n3\n")


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (Tensor.backward, ("x.grad", "Σ_i gradient_i ∂y_i/∂x", "cotangent", "of y's shape", "Raises AutogradError", ">>> ")),
        (tinylm.softmax, ("e^x / Σ e^x", "dx = y (dy - Σ dy y)", "x (...) -> y (...)", ">>> ")),
        (Tensor.sum, ("Σ x", "dx = dy, repeated", "x (N, C) -> (C,)", ">>> ")),
        (Tensor.reshape, ("in another shape", "dx = dy", ">>> ")),
        (tinylm.nn.Linear, ("x Wᵀ + b", "(..., in) -> (..., out)")),
    ],
)
def test_help_says_what_it_does(what: Any, words: tuple[str, ...]) -> None:
    text = pydoc.plain(pydoc.render_doc(what))
    for word in words:
        assert word in text, f"help does not say {word!r}:\n{text}"
    assert "See `" not in text


# ---------------------------------------------------------------- the pages


@pytest.fixture(scope="module")
def made() -> dict[str, str]:
    """Returns the pages of the core, the ops and the data; all of them take ten seconds."""
    pytest.importorskip("pdoc")
    pages: dict[str, str] = reference.pages(("tinylm", "tinylm.ops", "tinylm.data", "tinylm.optim"))
    return pages


def plain(html: str) -> str:
    return " ".join(re.sub("<[^>]*>", "", html).split())


def test_the_pages_have_types_formulas_and_methods(made: dict[str, str]) -> None:
    assert set(made) == {"index.html", "search.js", "tinylm.html", "tinylm/ops.html", "tinylm/data.html", "tinylm/optim.html"}
    ops, core = plain(made["tinylm/ops.html"]), plain(made["tinylm.html"])
    assert "def softmax(x: ArrayLike, /, axis: int = -1) -> Tensor:" in ops
    assert "numbers become positive and sum to 1.&emsp;dx = y (dy - Σ dy y)." in ops
    assert "def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:" in core
    assert "the gradient, an array like data" in core
    assert 'id="softmax"' not in made["tinylm.html"], "ops have a page of their own"
    assert 'id="Tensor.softmax"' in made["tinylm.html"]
    assert 'id="AdamW.update"' in made["tinylm/optim.html"], "a base that nobody exports is not shown, but its members are"
    for page in ("tinylm.html", "tinylm/ops.html", "tinylm/data.html"):
        sections = re.findall(r'<(?:section|div) id="([\w.]+)"', made[page])
        assert len(sections) > 40
        assert [name for name in sections if any(part.startswith("_") and part != "__init__" for part in name.split("."))] == []


def test_docstrings_are_shown_as_they_are() -> None:
    text = "x * y * z < `w` & [i](j) <unk>.  dx = 2.\n\nSo:\n- one\n  more\n- two\n\n    p_n = γ(h)\n\n>>> 1 < 2\nTrue"
    code = '<div class="pdoc-code codehilite"><pre>{}</pre></div>'
    assert reference.docstring_html(text).splitlines() == [
        "<p>x * y * z &lt; <code>w</code> &amp; [i](j) &lt;unk&gt;.&emsp;dx = 2.</p>",
        "<p>So:</p>",
        "<ul><li>one more</li><li>two</li></ul>",
        code.format("p_n = γ(h)"),
        *code.format("&gt;&gt;&gt; 1 &lt; 2\nTrue").splitlines(),
    ]


@needs_chromium()
def test_a_page_fits_a_phone(made: dict[str, str], tmp_path: Path) -> None:
    page = tmp_path / "data.html"
    page.write_text(made["tinylm/data.html"].replace("../search.js", ""), encoding="utf-8")
    found, console = probed(page, READABLE, 400, tmp_path)
    assert console == []
    assert found["texts"] > 300
    assert found["scroll"] <= 0  # long lines of code scroll within their boxes


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pdoc")
    assert "not written (dry run)" in ends_well(script_here("reference.py", "--dry-run", cwd=tmp_path))
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "pdoc", None)
    fails_with_one_line(script_here("reference.py", cwd=tmp_path), "pip install pdoc")
