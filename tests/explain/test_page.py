"""tinylm.explain.page: one file, and how Chromium shows it."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import READABLE, assert_contrast, assert_found_readable, assert_readable, needs_chromium, opened, probed

import tinylm
from tinylm import Tensor, explain
from tinylm.errors import CheckpointError
from tinylm.models import GPT, GPTConfig, RNNModel


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
    explain.page((x * y + x).sum(), tmp_path / "page.html", about="in all")
    record = data(tmp_path / "page.html")
    assert [step["op"] for step in record["steps"]] == ["sum", "add", "multiply"]
    assert record["tree"] == [1, 2, 3]
    arrays = record["arrays"]
    assert [(row["name"], row["to"]["step"]) for row in record["steps"][1]["rows"][1:]] == [("a", 3), ("b", None)]
    product, to_x, to_y = record["steps"][2]["rows"]
    assert (product["name"], arrays[product["value"]]["values"], arrays[product["gradient"]]["values"]) == (
        "output",
        [6.0, 8.0],
        [1.0, 1.0],
    )
    assert (to_x["name"], arrays[to_x["value"]]["values"]) == ("a", [3.0, 4.0])
    assert arrays[to_x["gradient"]] == {"shape": [2], "norm": 8**0.5, "min": 2.0, "max": 2.0, "mean": 2.0, "values": [2.0, 2.0]}
    assert arrays[to_x["total"]]["values"] == [3.0, 3.0]
    assert [record["leaves"][row["to"]["leaf"]]["name"] for row in (to_x, to_y)] == ["x", "y"]
    assert arrays[record["leaves"][0]["gradient"]]["values"] == [3.0, 3.0]
    assert record["sentence"] == "loss 21.0000 in all. Its backward pass takes 3 steps."
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
    assert str(Path.home()) not in text, "nor does it tell where this machine has its files"
    assert str(Path(__file__).parent) not in text
    assert str(Path(tinylm.__file__).parent) not in text
    markup = text.replace(json.dumps(data(gpt_page), ensure_ascii=False), "")
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', markup) == []
    assert not re.search(r"@import|url\(|\bimport\(|fetch\(", markup)
    assert "https://" not in markup
    assert "<noscript>" in markup


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    x = Tensor(np.ones(2), requires_grad=True)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot write"):
        explain.page(x.sum(), tmp_path / "file" / "page.html")


# ---------------------------------------------------------------- in Chromium


def attention_steps(page: Path, layer: int) -> dict[int, str]:
    """Returns the ops of a layer's attention by the numbers of their steps."""
    steps = enumerate(data(page)["steps"], 1)
    return {n: step["op"] for n, step in steps if step["module"].startswith(f"transformer.h.{layer}.attn")}


OPEN_ALL = "[...document.querySelectorAll('.bar button')][0].click()"
GRAPH = """
  const draw = () => {
    const box = document.querySelector(".edges").getBoundingClientRect();
    const visible = e => { const b = e.getBoundingClientRect(); return b.height > 0 && b.left >= box.left && b.right <= box.right; };
    const rows = [...document.querySelectorAll(".graph .row")].filter(e => e.checkVisibility());
    const open = rows.filter(e => e.getAttribute("aria-expanded") === "true" && e.parentElement.className === "group");
    return {
      rows: rows.length,
      open: open.length,
      nodes: [...document.querySelectorAll(".edges .node")].filter(visible).length,
      lines: [...document.querySelectorAll(".edges path")].filter(visible).length,
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


@pytest.fixture(scope="module", params=[1280, 400])
def looked_at(request: pytest.FixtureRequest, gpt_page: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], int]:
    """Returns what the page is like at first, what happens at clicks, and what it is like when all is open; and the window's width."""
    probe = f"""
      const built = [document.querySelectorAll("*").length, document.querySelectorAll(".detail pre").length];
      const readable = () => {{ {READABLE} }};
      const first = readable(), graph = (() => {{ {GRAPH} }})();
      {OPEN_ALL};
      return {{built, first, graph, open: readable()}};
    """
    found, console = probed(gpt_page, probe, request.param, tmp_path_factory.mktemp("looked"))
    assert console == []
    return found, request.param


@needs_chromium()
def test_the_graph_is_drawn_and_opens(gpt_page: Path, looked_at: tuple[dict[str, Any], int]) -> None:
    found = looked_at[0]["graph"]
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
    for text in ("language_model.py", "return ops.cross_entropy(logits, targets)", "dlogits", "logits(2, 16, 65), norm", "to step 2"):
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
def test_text_is_readable(looked_at: tuple[dict[str, Any], int]) -> None:
    """At first, and when everything is open."""
    found, width = looked_at
    assert_found_readable(found["first"], width)
    assert_found_readable(found["open"], width)
    assert found["open"]["texts"] > 2 * found["first"]["texts"]


def assert_readable_open(page: Path, width: int, folder: Path, then: str = "") -> None:
    text = page.read_text(encoding="utf-8").replace("</html>", f"<script>{OPEN_ALL}; {then}</script></html>")
    (folder / "open.html").write_text(text, encoding="utf-8")
    assert_readable(folder / "open.html", width, folder)


@needs_chromium()
def test_text_stands_out_in_light_and_in_dark(gpt_page: Path, tmp_path: Path) -> None:
    assert_contrast(gpt_page, 1280, tmp_path, OPEN_ALL)


@needs_chromium()
def test_everything_opens_and_closes_and_is_printed_open(gpt_page: Path, tmp_path: Path) -> None:
    """And a focused row is outlined, a heat map tells its values by keyboard."""
    probe = """
      const [open, close] = document.querySelectorAll(".bar button");
      const count = () => [...document.querySelectorAll(".row")].filter(row => row.getAttribute("aria-expanded") === "true").length;
      const counts = [count()];
      const then = what => { what(); counts.push(count()); };
      then(() => open.click());
      const canvas = document.querySelector("#step-2 canvas"), told = canvas.nextElementSibling, still = told.textContent;
      canvas.dispatchEvent(new window.KeyboardEvent("keydown", {key: "ArrowRight"}));
      const by_keyboard = told.textContent;
      canvas.dispatchEvent(new window.Event("blur"));
      const after = told.textContent;
      then(() => close.click());
      then(() => window.dispatchEvent(new window.Event("beforeprint")));
      then(() => window.dispatchEvent(new window.Event("afterprint")));
      const row = document.querySelector(".row");
      row.focus({focusVisible: true});
      const {outlineStyle, outlineWidth} = window.getComputedStyle(row);
      return {counts, rows: document.querySelectorAll(".row").length, still, by_keyboard, after, outline: [outlineStyle, outlineWidth]};
    """
    found, console = probed(gpt_page, probe, 1280, tmp_path)
    assert console == []
    some, everything, nothing, printed, again = found["counts"]
    assert everything == printed == found["rows"]
    assert nothing == again == 0
    assert 0 < some < everything
    assert found["still"] == found["after"] == "2 × 16 rows × 65 columns, 1 × 2 per cell"
    assert re.fullmatch(r"row \(0, 0\), columns 2 to 3: ≈ -?[0-9.]+", found["by_keyboard"])
    assert found["outline"] == ["solid", "3px"]


@needs_chromium()
def test_heat_maps_show_the_values(tmp_path: Path) -> None:
    """One pixel per cell: orange above 0, blue below, the opacity the square root of the value relative to the largest."""
    x = Tensor(np.zeros((40, 30)), requires_grad=True)
    x.data[0, :4] = 4.0, -4.0, 1.0, -1.0
    x.data[3, 29] = -2.0  # in the cell of rows 2 and 3
    x.data[2, 29] = 1.0
    explain.page(x.sum(), tmp_path / "page.html")
    probe = (
        OPEN_ALL
        + """;
      const canvas = document.querySelector("#leaf-0 canvas");
      const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const at = (row, column) => [...pixels.data.slice(4 * (row * canvas.width + column), 4 * (row * canvas.width + column + 1))];
      return {size: [canvas.height, canvas.width], cells: [at(0, 0), at(0, 1), at(0, 2), at(0, 3), at(1, 29), at(5, 5)]};
    """
    )
    found, console = probed(tmp_path / "page.html", probe, 1280, tmp_path)
    assert console == []
    assert found["size"] == [20, 30]
    hottest, coldest, hot, cold, furthest, zero = found["cells"]
    assert (hottest, coldest, zero[3]) == ([216, 92, 32, 254], [56, 120, 216, 254], 0)
    assert (hot[3], cold[3]) == (128, 128), "√(1/4) is a half"
    assert hot[0] > hot[2]
    assert cold[0] < cold[2]
    assert furthest[3] == pytest.approx(254 * 0.5**0.5, abs=2)
    assert furthest[0] < furthest[2], "-2 is further from 0 than 1"


@needs_chromium()
def test_time_steps_of_a_recurrent_op(tmp_path: Path) -> None:
    model = RNNModel("lstm", 11, 12, 12, 1)
    ids = np.random.default_rng(0).integers(0, 11, (2, 9))
    loss, _ = model.loss(Tensor(ids[:, :-1]), Tensor(ids[:, 1:]))
    explain.page(loss, tmp_path / "page.html", model=model)
    (step,) = [step for step in data(tmp_path / "page.html")["steps"] if step["op"] == "lstm"]
    assert [row["name"] for row in step["times"]["maps"]] == ["input", "forget", "candidate", "output", "c", "h"]
    arrays = data(tmp_path / "page.html")["arrays"]
    for row in step["times"]["maps"]:
        for kind in ("value", "gradient"):
            assert (arrays[row[kind]]["shape"], arrays[row[kind]]["map"]["columns"]) == ([2, 12, 8], 8), "units by time steps"
    closed = "document.querySelector('details').open = false"  # the table scrolls sideways in its box
    assert_readable_open(tmp_path / "page.html", 400, tmp_path, closed)


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
    assert "(2), norm nan, mean nan, from nan to nan[nan, inf]" in shown
    assert "(0, 3), norm 0[]" in shown


@needs_chromium()
def test_little_is_built_before_it_is_opened(gpt_page: Path, looked_at: tuple[dict[str, Any], int]) -> None:
    """Milliseconds would depend on a busy machine, so what must be read and laid out is counted."""
    elements, texts = looked_at[0]["built"]
    assert elements < 1200, "70 steps and 27 leaves"
    assert texts == 0, "details are made when they are opened"
    assert gpt_page.stat().st_size < 400_000, "70 steps, values beside gradients"
