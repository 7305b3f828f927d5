"""The live page in Chromium beside tinylm: what it computes, what it reads out, what changes, and how it looks."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CONTRASTS, READABLE, needs_chromium, probed

import tinylm
from tinylm import Tensor, explain
from tinylm.data.labelled import encode_words
from tinylm.data.tokenizers import BpeTokenizer, CharTokenizer, Tokenizer, WordTokenizer
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.explain.live.weights import rounded
from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig, RNNModel, TransformerModel
from tinylm.models.classifier import BagClassifier, Ensemble, LSTMClassifier

ROOT = Path(__file__).resolve().parents[2]
TEXT, OTHER = "the dog, the fox", "a lazy fox\n"
CHARACTERS = CharTokenizer("the quick brown fox jumps over the lazy dog, \n")
WORDS = WordTokenizer(["the", " the", " dog", " is", " good", " bad", " a", " fox", " ,"])
SENTENCE, ANOTHER = "The dog is good, the fox is bad", "a good fox"


@dataclasses.dataclass(frozen=True)
class Shown:
    """A model and its page."""

    path: Path
    model: Any
    tokenizer: Tokenizer

    @property
    def twin(self) -> Any:
        """The model with the page's weights."""
        return rounded(self.model)


def _models() -> dict[str, tuple[Any, Tokenizer]]:
    tinylm.manual_seed(0)
    n = CHARACTERS.vocab_size
    return {
        "gpt": (GPT(GPTConfig(vocab_size=n, block_size=24, n_layer=2, n_head=2, n_embd=16)), CHARACTERS),
        "llama": (Llama(LlamaConfig(vocab_size=n, block_size=24, n_layer=2, n_head=4, n_kv_head=2, n_embd=16, n_hidden=24)), CHARACTERS),
        "lstm": (RNNModel("lstm", n, 12, 16, 2, dropout=0.0), CHARACTERS),
        "classifier": (Ensemble([LSTMClassifier(WORDS.vocab_size, 6, 8) for _ in range(2)]), WORDS),
    }


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    folder, pages = tmp_path_factory.mktemp("live"), {}
    for name, (model, tokenizer) in _models().items():
        text = SENTENCE if name == "classifier" else TEXT
        explain.model_page(model, tokenizer, text, folder / f"{name}.html", labels=("bad", "good"))
        pages[name] = Shown(folder / f"{name}.html", model, tokenizer)
    return pages


# ---------------------------------------------------------------- tinylm's side


def loss_of(model: Any, text: str) -> float:
    ids = CHARACTERS.encode(text)
    return model.loss(Tensor(ids[None, :-1]), Tensor(ids[None, 1:]))[0].item()


def logit_of(model: Any, text: str) -> float:
    ids = encode_words(WORDS, text)
    return model(Tensor(ids[None]), np.array([len(ids)])).item()


def seen(model: Any, text: str, name: str) -> np.ndarray:
    with tinylm.no_grad(), explain.cache(model, name) as found:
        model.logits(Tensor(CHARACTERS.encode(text)[None]))
    return found[name].data[0]


def without(index: int) -> Callable[[Tensor], np.ndarray]:
    """Returns what replaces head_out (N, H, T, C) when one head is off."""

    def off(heads: Tensor) -> np.ndarray:
        found = heads.data.copy()
        found[:, index] = 0
        return found

    return off


def unit_off(unit: int) -> Callable[[Tensor, int], np.ndarray]:
    def off(h: Tensor, step: int) -> np.ndarray:
        found = h.data.copy()
        found[:, unit] = 0
        return found

    return off


def number(text: str) -> float:
    return float(text.replace("−", "-"))


# ---------------------------------------------------------------- in Chromium

HELPERS = """
  const $ = id => document.getElementById(id);
  const key = name => [...document.querySelectorAll("[data-key]")].find(e => e.dataset.key === name);
  const write = text => {
    $("text").value = text;
    for (const name of ["input", "change"]) $("text").dispatchEvent(new window.Event(name));
  };
  const press = (element, name) => element.dispatchEvent(new window.KeyboardEvent("keydown", {key: name, bubbles: true, cancelable: true}));
  const point = (element, part) => { // at a part of the width of the first row
    const box = element.querySelector("canvas").getBoundingClientRect();
    const place = {clientX: box.left + part * box.width, clientY: box.top + 2};
    element.dispatchEvent(new window.PointerEvent("pointermove", {...place, bubbles: true}));
    return $("readout").textContent;
  };
  const tokens = () => [...document.querySelectorAll(".token")].map(e => e.textContent);
  const chosen = () => Number(document.querySelector(".token[aria-selected=true]").id.slice(6));
  const focused = element => {
    element.focus();
    const style = window.getComputedStyle(element);
    return [element.matches(":focus-visible"), style.outlineStyle, parseFloat(style.outlineWidth)];
  };
  const found = {ready: Number(document.body.dataset.ready), tokens: tokens(), noscript: document.querySelectorAll("noscript").length};
"""
LOOKS = f"""
  for (const each of document.querySelectorAll("details")) each.open = true;
  const look = () => [(() => {{ {READABLE} }})(), (() => {{ {CONTRASTS} }})(), window.getComputedStyle(document.body).backgroundColor];
  found.looks = [look()];
  window.frameElement.style.width = "400px";
  window.frameElement.style.colorScheme = "dark";
  found.looks.push(look());
  return found;
"""  # at the width and in the scheme of the window, then on a phone in the dark, with everything open
LANGUAGE = """
  found.loss = $("loss").textContent;
  write(FIRST_TEXT);
  found.other = [$("loss").textContent, tokens().join("")];
  press(document.querySelector(".token[aria-selected=true]"), "Home");
  press(document.querySelector(".token[aria-selected=true]"), "ArrowRight");
  press(document.querySelector(".token[aria-selected=true]"), "ArrowRight");
  found.chosen = [chosen(), document.activeElement.id];
  found.focus = focused(document.activeElement);
"""
TRANSFORMER = """
  for (const each of document.querySelectorAll("details")) each.open = true;
  const q = key("strip h.1.attn.q");
  found.hover = point(q, (3 + .5) / 4);
  found.focusStrip = focused(q);
  press(q, "Home");
  press(q, "ArrowRight");
  found.arrow = [$("readout").textContent, q.getAttribute("aria-valuetext")];
  key("head 1 0").click();
  press(key("head 1 0"), "ArrowRight");
  found.head = point(key("strip h.1.attn.z"), .01);
  document.querySelector('[data-name="h.1.attn.head_out"][data-index="0"]').click();
  found.off = [$("loss").textContent, $("change").textContent, document.querySelector(".switch.off").textContent];
  document.querySelector('[data-name="h.0.mlp.out"]').click();
  found.both = $("loss").textContent;
  const place = $("index"), factor = $("factor");
  $("reset").click();
  found.reset = [$("loss").textContent, $("changed").hidden];
  write("the \\u00fc");
  found.problem = [$("problem").hidden, $("problem").textContent, tokens().join("")];
  write("");
  found.empty = $("problem").textContent;
  write(FIRST_TEXT);
  found.again = [$("problem").hidden, $("loss").textContent];
  document.querySelector('[data-name="h.1.attn.head_out"][data-index="1"]').click();
"""
RECURRENT = """
  found.hover = point(key("strip rnn.1.forget"), (5 + .5) / 16);
  key("part rnn.1 c").click();
  found.picture = point(key("grid rnn.1"), .01);
  const unit = key("unit rnn.0");
  unit.value = 3;
  unit.dispatchEvent(new window.Event("change"));
  key("unit-off rnn.0").click();
  found.off = $("loss").textContent;
  found.formula = [...document.querySelectorAll(".formula")].map(e => e.textContent).find(text => text.startsWith("h = o tanh(c)"));
"""
CLASSIFIER = """
  found.sentence = $("sentence").textContent;
  write(SECOND_TEXT);
  found.other = $("sentence").textContent;
  found.hover = point(key("strip members.0.rnn.0.reverse.h"), (2 + .5) / 8);
  const logit = [...document.querySelectorAll(".step")].find(e => e.querySelector("h4").textContent === "Logit");
  found.logit = logit.querySelector(".how").textContent;
  key("unit-off members.0.rnn.0").click();
  found.off = $("sentence").textContent;
  found.unit = Number(key("unit members.0.rnn.0").value);
"""


def opened(page: Shown, steps: str, folder: Path) -> Any:
    """Returns what the steps found in a light window of 1280 pixels, after checking how the page looks there and on a phone in the
    dark: no text is small, outside the window or faint, and the console is empty."""
    texts = steps.replace("FIRST_TEXT", repr(OTHER)).replace("SECOND_TEXT", repr(ANOTHER))
    found, console = probed(page.path, HELPERS + texts + LOOKS, 1280, folder)
    assert console == []
    assert [look[2] for look in found["looks"]] == ["rgb(255, 255, 255)", "rgb(20, 23, 28)"]
    for width, (readable, contrasts, _) in zip((1280, 400), found["looks"], strict=True):
        assert readable["width"] == width
        assert readable["smallest"] >= 13
        assert readable["left"] >= 0
        assert readable["right"] <= width
        assert readable["scroll"] <= 0
        assert len(contrasts) > 50, "texts were found"
        assert [(what, ratio) for ratio, what in contrasts if ratio < 4.5] == []
    return found


def read_out(said: str) -> tuple[str, list[int], float]:
    """Returns (activation, place, value) of a line such as 'h.1.attn.q[0, 2, 3] = −0.5 ...'."""
    matched = re.match(r"([\w.]+)\[([\d, ]+)\] = (−?[\d.e−]+)", said)
    assert matched is not None, said
    return matched[1], [int(i) for i in matched[2].split(", ")], number(matched[3].rstrip("."))


@needs_chromium()
@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_a_transformer(shown: dict[str, Shown], name: str, tmp_path: Path) -> None:
    page = shown[name]
    found, twin = opened(page, LANGUAGE + TRANSFORMER, tmp_path), page.twin
    assert "".join(found["tokens"]) == TEXT.replace(" ", "␣")
    assert number(found["loss"]) == pytest.approx(loss_of(twin, TEXT), abs=1e-3)
    assert number(found["other"][0]) == pytest.approx(loss_of(twin, OTHER), abs=1e-3)
    assert found["other"][1] == OTHER.replace(" ", "␣").replace("\n", "↵")
    assert found["chosen"] == [2, "token-2"]
    assert found["focus"][0]
    assert found["focus"][1] == "solid"
    assert found["focus"][2] >= 2
    assert found["focusStrip"] == found["focus"]
    q = seen(twin, OTHER, "h.1.attn.q")
    for said, i in ((found["hover"], q.shape[2] - 1), (found["arrow"][0], 1)):
        activation, place, value = read_out(said)
        assert (activation, place) == ("h.1.attn.q", [0, 2, i])
        assert value == pytest.approx(float(q[tuple(place)]), abs=1e-3)
    assert found["arrow"][0] == found["arrow"][1]
    assert read_out(found["head"])[1][0] == 1, "the next head"
    with explain.replace(twin, {"h.1.attn.head_out": without(0)}):
        off = loss_of(twin, OTHER)
    plain = loss_of(twin, OTHER)
    assert abs(off - plain) > 1e-3
    assert number(found["off"][0]) == pytest.approx(off, abs=1e-3)
    assert float(found["off"][1].replace("−", "-")) == pytest.approx(off - plain, abs=1e-3)
    assert found["off"][2] == "0"
    with explain.replace(twin, {"h.1.attn.head_out": without(0), "h.0.mlp.out": 0.0}):
        assert number(found["both"]) == pytest.approx(loss_of(twin, OTHER), abs=1e-3)
    assert found["reset"] == [found["other"][0], True]
    assert found["problem"][0] is False
    assert "ü" in found["problem"][1]
    assert found["problem"][2] == found["other"][1], "the text before stays"
    assert "empty" in found["empty"]
    assert found["again"] == [True, found["other"][0]]


@needs_chromium()
def test_a_recurrent_model(shown: dict[str, Shown], tmp_path: Path) -> None:
    found, twin = opened(shown["lstm"], LANGUAGE + RECURRENT, tmp_path), shown["lstm"].twin
    assert number(found["loss"]) == pytest.approx(loss_of(twin, TEXT), abs=1e-3)
    assert number(found["other"][0]) == pytest.approx(loss_of(twin, OTHER), abs=1e-3)
    for said, expected in ((found["hover"], "rnn.1.forget"), (found["picture"], "rnn.1.c")):
        activation, place, value = read_out(said)
        assert activation == expected
        assert value == pytest.approx(float(seen(twin, OTHER, activation)[tuple(place)]), abs=1e-3)
    with explain.replace(twin, {"rnn.0.h": unit_off(3)}):
        assert number(found["off"]) == pytest.approx(loss_of(twin, OTHER), abs=1e-3)
    assert found["formula"].endswith(", then × 0")


@needs_chromium()
def test_a_classifier(shown: dict[str, Shown], tmp_path: Path) -> None:
    found, twin = opened(shown["classifier"], CLASSIFIER, tmp_path), shown["classifier"].twin
    for sentence, text in ((found["sentence"], SENTENCE), (found["other"], ANOTHER)):
        matched = re.search(r"logit ([+−][\d.e−]+)", sentence)
        assert matched is not None
        assert number(matched[1]) == pytest.approx(logit_of(twin, text), abs=1e-3)
        assert ("‘good’" if logit_of(twin, text) > 0 else "‘bad’") in sentence.split(" with ")[0]
    activation, place, value = read_out(found["hover"])
    with tinylm.no_grad(), explain.cache(twin, activation) as kept:
        logit_of(twin, ANOTHER)
    assert value == pytest.approx(float(kept[activation].data[0][tuple(place)]), abs=1e-3)
    own = re.search(r"sum of the bars (\S+) \+ b (\S+) = ([^;]+);", found["logit"])
    assert own is not None
    ids = encode_words(WORDS, ANOTHER)
    assert number(own[3]) == pytest.approx(twin.members[0](Tensor(ids[None]), np.array([len(ids)])).item(), abs=1e-3)
    with explain.replace(twin, {"members.0.rnn.0.h": unit_off(found["unit"])}):
        off = logit_of(twin, ANOTHER)
    matched = re.search(r"logit ([+−][\d.e−]+)", found["off"])
    assert matched is not None
    assert number(matched[1]) == pytest.approx(off, abs=1e-3)


BACKWARD = """
  press($("forward-tab"), "ArrowRight");
  found.tabs = [document.activeElement.id, $("forward").hidden, $("backward").hidden, $("pass").textContent.includes("cross_entropy")];
"""


@needs_chromium()
def test_a_recorded_run_and_the_backward_pass(tmp_path: Path) -> None:
    model = TransformerModel(CHARACTERS.vocab_size, 8, 2, 8, 2)
    page = explain.model_page(model, CHARACTERS, TEXT, tmp_path / "page.html")
    assert page.problem.endswith("not a TransformerModel")
    probe = """
      found.notice = $("recorded").textContent;
      found.loss = $("loss").textContent;
      found.editable = [$("text").readOnly, $("switches").hidden];
      press(document.querySelector(".token[aria-selected=true]"), "Home");
      press(document.querySelector(".token[aria-selected=true]"), "ArrowRight");
      const bars = key("bars h.1.attn.pattern");
      press(bars, "Home");
      found.weight = $("readout").textContent;
      found.lens = document.querySelectorAll(".chip").length;
    """
    found = opened(Shown(tmp_path / "page.html", model, CHARACTERS), probe + BACKWARD + '$("forward-tab").click();', tmp_path)
    assert "a recorded run of one text" in found["notice"]
    assert found["editable"] == [True, True]
    assert number(found["loss"]) == pytest.approx(loss_of(model.eval(), TEXT), abs=1e-3)
    activation, place, value = read_out(found["weight"])
    assert value == pytest.approx(float(seen(model, TEXT, activation)[tuple(place)]), abs=1e-3)
    assert found["lens"] == 3 * 3, "before the first layer, and after each"
    assert found["tabs"] == ["backward-tab", True, False, True]


# ---------------------------------------------------------------- the file


def test_the_file(shown: dict[str, Shown]) -> None:
    for page in shown.values():
        text = page.path.read_text(encoding="utf-8")
        assert "<noscript>" in text
        assert not re.search(r"/root|/home|/tmp/|/work|site-packages|Users\\", text)
        assert str(ROOT) not in text
        assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', text) == []
        assert "rounded to 16 bits" in text


def test_a_notebook_shows_it_inline(shown: dict[str, Shown]) -> None:
    page = explain.model_page(shown["gpt"].model, CHARACTERS, TEXT, exact=True)
    assert page._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    assert repr(page) == f"ModelPage({len(page.content):,} bytes, live)"
    assert b"in float32" in page.content


def test_why_a_model_is_only_recorded(shown: dict[str, Shown]) -> None:
    pieces = BpeTokenizer.train(TEXT * 9, 300)
    model = GPT(GPTConfig(vocab_size=300, block_size=24, n_layer=1, n_head=2, n_embd=8))
    assert "'bpe'" in explain.model_page(model, pieces, TEXT).problem
    bags = Ensemble([BagClassifier(WORDS.vocab_size, 4, 32) for _ in range(2)])
    assert "BagClassifier" in explain.model_page(bags, WORDS, SENTENCE).problem


def test_what_it_refuses(shown: dict[str, Shown], tmp_path: Path) -> None:
    model = shown["gpt"].model
    with pytest.raises(ConfigError, match="has 25 tokens: expected at most 24"):
        explain.model_page(model, CHARACTERS, "a" * 25)
    with pytest.raises(DataError, match="unknown character"):
        explain.model_page(model, CHARACTERS, "ü")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CheckpointError, match="cannot write"):
        explain.model_page(model, CHARACTERS, TEXT, tmp_path / "file" / "page.html")
