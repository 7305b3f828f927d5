"""The live page in Chromium beside tinylm: what it computes, what it reads out, what changes, and how it looks."""

import re
from pathlib import Path

import numpy as np
import pytest
from browser import needs_chromium
from live_pages import (
    ANOTHER,
    CHARACTERS,
    OTHER,
    SENTENCE,
    TEXT,
    WORDS,
    Shown,
    logit_of,
    loss_of,
    number,
    opened,
    read_out,
    seen,
    small_models,
    unit_off,
    without,
)  # fmt: skip
from live_probes import CLASSIFIER, LANGUAGE, RECURRENT, TRANSFORMER

import tinylm
from tinylm import Tensor, explain
from tinylm.data.labelled import encode_words
from tinylm.data.tokenizers import BpeTokenizer
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.models import GPT, GPTConfig, TransformerModel
from tinylm.models.classifier import BagClassifier, Ensemble

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shown]:
    folder, pages = tmp_path_factory.mktemp("live"), {}
    for name, (model, tokenizer) in small_models().items():
        text = SENTENCE if name == "classifier" else TEXT
        explain.model_page(model, tokenizer, text, folder / f"{name}.html", labels=("bad", "good"))
        pages[name] = Shown(folder / f"{name}.html", model, tokenizer)
    return pages


# ---------------------------------------------------------------- in Chromium


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
    assert ("q = Rt Wq n" in found["formulas"]) == (name == "llama")
    assert ("Heads 0 to 1 share key and value head 0." in found["formulas"]) == (name == "llama")
    assert "Wout = E: the embeddings (tied weights)" in found["formulas"]
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
    assert found["printed"][0] == 0
    assert found["printed"][1:] == [found["printed"][4], 0, 0, found["printed"][4]], "all is printed, and closed again"
    assert found["problem"][2] == found["other"][1], "the text before stays"
    assert "empty" in found["empty"]
    assert found["again"] == [True, found["other"][0]]
    assert "the place is ‘99’: expected 0 to 15" in found["refused"]
    assert number(found["uniform"]) == pytest.approx(np.log(CHARACTERS.vocab_size), abs=1e-3), "the last norm's weights times 0"


@needs_chromium()
def test_a_recurrent_model(shown: dict[str, Shown], tmp_path: Path) -> None:
    found, twin = opened(shown["lstm"], LANGUAGE + RECURRENT, tmp_path), shown["lstm"].twin
    assert number(found["loss"]) == pytest.approx(loss_of(twin, TEXT), abs=1e-3)
    assert number(found["other"][0]) == pytest.approx(loss_of(twin, OTHER), abs=1e-3)
    for said, expected in ((found["hover"], "rnn.1.forget"), (found["picture"], "rnn.1.c")):
        activation, place, value = read_out(said)
        assert activation == expected
        assert value == pytest.approx(float(seen(twin, OTHER, activation)[tuple(place)]), abs=1e-3)
    gate = seen(twin, OTHER, "rnn.1.forget")[found["chosen"][0]]
    said = re.fullmatch(r"mean (\S+), from (\S+) to (\S+)", found["gate"])
    assert said is not None
    assert [number(part) for part in said.groups()] == pytest.approx([gate.mean(), gate.min(), gate.max()], abs=2e-3)
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
    assert found["note"] is True
    assert found["cut"] == "The model reads the first 500 words. 1 word not in the vocabulary: read as <unk>."
    assert found["scroll"] == [True, 200], "the tokens stay where they were scrolled to"
    activation, place, value = read_out(found["hover"])
    with tinylm.no_grad(), explain.cache(twin, "members.0.rnn.*") as kept:
        logit_of(twin, ANOTHER)
    unit = kept["members.0.rnn.0.reverse.h"].data[0, :, 1]  # the tenth of both directions' sixteen
    assert found["pooled"].startswith("members.0.pooled[9] = ")
    assert number(found["pooled"].split(" = ")[1].split(",")[0]) == pytest.approx(float(unit.max()), abs=1e-3)
    assert f", from position {unit.argmax()}, ‘{ANOTHER.split()[unit.argmax()]}’" in found["pooled"]
    assert value == pytest.approx(float(kept[activation].data[0][tuple(place)]), abs=1e-3)
    own = re.search(r"sum of the bars, (\S+), and b, (\S+), is ([^;]+);", found["logit"])
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
      found.embedding = key("fold embed").closest("details").textContent;
      found.formulas = [...document.querySelectorAll(".formula")].map(e => e.textContent);
    """
    found = opened(Shown(tmp_path / "page.html", model, CHARACTERS), probe + BACKWARD + '$("forward-tab").click();', tmp_path)
    assert "a recorded run of one text" in found["notice"]
    assert found["editable"] == [True, True]
    assert number(found["loss"]) == pytest.approx(loss_of(model.eval(), TEXT), abs=1e-3)
    activation, place, value = read_out(found["weight"])
    assert value == pytest.approx(float(seen(model, TEXT, activation)[tuple(place)]), abs=1e-3)
    assert found["lens"] == 3 * 3, "before the first layer, and after each"
    size = re.search(r"‖x‖ = (\S+)$", found["embedding"])
    assert size is not None
    assert number(size[1]) == pytest.approx(np.linalg.norm(seen(model, TEXT, "h.0.resid_pre")[1]), abs=1e-3)
    assert "‖x‖ before, after attention and its norm, and after the MLP and its norm" in found["formulas"]
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
