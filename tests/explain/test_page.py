"""tinylm.explain.page: one file, and how Chromium shows it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import assert_contrast, assert_readable, needs_chromium, opened, probed

import tinylm
from tinylm import Tensor, explain
from tinylm.errors import CheckpointError
from tinylm.models import GPT, GPTConfig
from tinylm.pages.document import document


@pytest.fixture(scope="module")
def gpt_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the page of a GPT with 4 layers."""
    path = tmp_path_factory.mktemp("page") / "gpt.html"
    model = GPT(GPTConfig(block_size=16, n_embd=32))
    ids = np.random.default_rng(0).integers(0, 65, (2, 17))
    loss, _ = model.loss(Tensor(ids[:, :-1]), Tensor(ids[:, 1:]))
    explain.page(loss, path, model=model)
    return path


def data(page: Path) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"), re.S)
    assert found is not None
    return json.loads(found[1])


def test_the_data_is_the_steps(tmp_path: Path) -> None:
    x, y = Tensor(np.array([3.0, 4.0]), requires_grad=True), Tensor(np.array([2.0, 2.0]), requires_grad=True)
    explain.page((x * y + x).sum(), tmp_path / "page.html")
    record = data(tmp_path / "page.html")
    assert [step["op"] for step in record["steps"]] == ["sum", "add", "multiply"]
    assert record["tree"] == [1, 2, 3]
    assert [give["step"] for give in record["steps"][1]["gives"]] == [3, None]
    to_x = record["steps"][2]["gives"][0]
    assert to_x["gradient"] == {"shape": [2], "norm": 8**0.5, "min": 2.0, "max": 2.0, "mean": 2.0, "values": [2.0, 2.0]}
    assert to_x["total"]["values"] == [3.0, 3.0]
    assert (to_x["leaf"], record["leaves"][0]["gradient"]["values"]) == (0, [3.0, 3.0])
    assert [(part["step"], part["argument"]) for part in record["leaves"][0]["parts"]] == [(2, "b"), (3, "a")]


def test_nodes_are_folded_by_module(gpt_page: Path) -> None:
    last = len(data(gpt_page)["steps"])
    loss, head, trunk = data(gpt_page)["tree"]
    assert (loss, head, trunk["path"]) == (1, 2, "transformer")
    blocks = trunk["items"][1]
    assert [item if isinstance(item, int) else item["path"] for item in trunk["items"]] == [3, "transformer.h", last - 2, last - 1, last]
    assert [item["path"] for item in blocks["items"]] == [f"transformer.h.{i}" for i in (3, 2, 1, 0)]
    mlp, norm_2, attention, norm_1 = blocks["items"][3]["items"]
    assert (mlp["path"], attention["path"], norm_1) == ("transformer.h.0.mlp", "transformer.h.0.attn", last - 3)
    assert mlp["items"] == [norm_2 - 2, norm_2 - 1]
    assert attention["items"] == list(range(norm_2 + 1, norm_1))


def test_it_needs_no_other_file(gpt_page: Path) -> None:
    text = gpt_page.read_text(encoding="utf-8")
    markup = text.replace(json.dumps(data(gpt_page), ensure_ascii=False), "")
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', markup) == []
    assert not re.search(r"@import|url\(|\bimport\(|fetch\(", markup)
    assert "https://" not in markup


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    x = Tensor(np.ones(2), requires_grad=True)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot write"):
        explain.page(x.sum(), tmp_path / "file" / "page.html")


# ---------------------------------------------------------------- in Chromium


@needs_chromium()
def test_errors_on_the_console_are_noticed(tmp_path: Path) -> None:
    """Otherwise an empty console would not mean that the pages have no errors."""
    (tmp_path / "bad.html").write_text("<!doctype html><script>undefined_function()</script>", encoding="utf-8")
    assert "undefined_function is not defined" in "".join(opened(tmp_path / "bad.html").console)


def attention_steps(page: Path, layer: int) -> dict[int, str]:
    """Returns the ops of a layer's attention by the numbers of their steps."""
    steps = enumerate(data(page)["steps"], 1)
    return {n: step["op"] for n, step in steps if step["module"].startswith(f"transformer.h.{layer}.attn")}


GRAPH = """
  const draw = () => {
    const box = document.getElementById("edges").getBoundingClientRect();
    const visible = e => { const b = e.getBoundingClientRect(); return b.height > 0 && b.left >= box.left && b.right <= box.right; };
    const rows = [...document.querySelectorAll("#graph .row")].filter(e => e.checkVisibility());
    const open = rows.filter(e => e.getAttribute("aria-expanded") === "true" && e.parentElement.className === "group");
    return {
      rows: rows.length,
      open: open.length,
      nodes: [...document.querySelectorAll("#edges .node")].filter(visible).length,
      lines: [...document.querySelectorAll("#edges path")].filter(visible).length,
    };
  };
  const before = draw();
  const group = [...document.querySelectorAll(".group > .row")].find(e => e.textContent.includes("transformer.h.0.attn"));
  group.click();
  const after = draw();
  group.click();
  const step = document.querySelector("#step-1");
  step.firstElementChild.click();
  const detail = step.querySelector(".detail");
  return {before, after, again: draw(), opened: detail.checkVisibility(), text: detail.textContent};
"""


@needs_chromium()
@pytest.mark.parametrize("width", [1280, 400])
def test_the_graph_is_drawn_and_opens(gpt_page: Path, tmp_path: Path, width: int) -> None:
    found, console = probed(gpt_page, GRAPH, width, tmp_path)
    assert console == []
    before, after = found["before"], found["after"]
    inside = len(attention_steps(gpt_page, 0))
    assert before["rows"] == 28, "attention and feed-forward are folded"
    assert before["nodes"] == before["rows"] - before["open"]
    assert before["lines"] >= before["nodes"] - 1, "every node but the loss is reached by a line"
    assert after["rows"] == before["rows"] + inside
    assert after["nodes"] == before["nodes"] + inside - 1
    assert after["lines"] > before["lines"]
    assert found["again"] == before
    assert found["opened"]
    for text in ("language_model.py", "return ops.cross_entropy(logits, targets)", "dlogits", "inputs: logits (2, 16, 65)", "to step 2"):
        assert text in found["text"], text


@needs_chromium()
def test_the_address_opens_a_step(gpt_page: Path) -> None:
    ops = attention_steps(gpt_page, 2) | attention_steps(gpt_page, 1)
    wanted, other = (n for n, op in ops.items() if op == "scaled_dot_product_attention")
    console, dom = opened(gpt_page, f"#step-{wanted}")
    assert console == []
    article = re.search(rf'<article id="step-{wanted}">.*?</article>', dom, re.S)
    assert article is not None
    assert 'aria-expanded="true"' in article[0]
    assert "softmax(scale Q Kᵀ + mask) V" in article[0]
    closed = re.search(rf'<article id="step-{other}">.*?</article>', dom, re.S)
    assert closed is not None
    assert 'aria-expanded="false"' in closed[0]


@needs_chromium()
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("everything", [False, True])
def test_text_is_readable(gpt_page: Path, tmp_path: Path, width: int, everything: bool) -> None:
    page = tmp_path / "page.html"
    text = gpt_page.read_text(encoding="utf-8")
    if everything:
        opener = '<script>for (const row of document.querySelectorAll(".row")) row.open(true);</script>'
        text = text.replace("</html>", opener + "</html>")
    page.write_text(text, encoding="utf-8")
    assert_readable(page, width, tmp_path)


@needs_chromium()
def test_text_stays_text(tmp_path: Path) -> None:
    """Docstrings with markup, NaN and infinities, empty arrays."""

    @tinylm.op
    def wild(x, /):
        """</script><script>boom()</script> & <b>bold</b>"""
        return x * 1, lambda dy: (dy * np.array([np.nan, np.inf]),)

    x, empty = Tensor(np.ones(2), requires_grad=True), Tensor(np.ones((0, 3)), requires_grad=True)
    explain.page(wild(x).sum() + empty.sum(), tmp_path / "page.html")
    probe = """
      for (const row of document.querySelectorAll(".row")) row.open(true);
      return [...document.querySelectorAll(".detail")].map(e => e.textContent);
    """
    found, console = probed(tmp_path / "page.html", probe, 800, tmp_path)
    assert console == []
    shown = "\n".join(found)
    assert "</script><script>boom()</script> & <b>bold</b>" in shown
    assert "(2), norm nan, from nan to nan, mean nan = [nan, inf]" in shown
    assert "(0, 3), norm 0 = []" in shown


@needs_chromium()
def test_little_is_built_before_it_is_opened(gpt_page: Path, tmp_path: Path) -> None:
    """Milliseconds would depend on a busy machine, so what must be read and laid out is counted."""
    probe = "return [document.querySelectorAll('*').length, document.querySelectorAll('.detail pre').length];"
    (elements, texts), _ = probed(gpt_page, probe, 1280, tmp_path)
    assert elements < 1200, "70 steps and 27 leaves"
    assert texts == 0, "details are made when they are opened"
    assert gpt_page.stat().st_size < 200_000


@needs_chromium()
def test_faint_text_is_noticed(tmp_path: Path) -> None:
    """Otherwise `assert_contrast` would say nothing: grey on paper, half transparent, and in a drawing on a dark shape."""
    drawing = '<svg><rect width="90" height="50" fill="#222"/><text y="20">in</text></svg>'
    words = '<p style="color: #999">grey</p><p style="opacity: .4">half</p><p style="background: #000; color: #fff">white</p>'
    (tmp_path / "page.html").write_bytes(document("Faint", words + drawing + "<p>ink</p>" * 6))
    with pytest.raises(AssertionError, match=r"light: .'p\.: grey \(2\.\d+\)', 'p\.: half \(2\.\d+\)', 'text\.: in \(1\.\d+\)'.$"):
        assert_contrast(tmp_path / "page.html", 800, tmp_path)
