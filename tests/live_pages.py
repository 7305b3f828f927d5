"""Live pages of small models, what tinylm computes beside them, and how Chromium opens them."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from browser import CONTRASTS, READABLE, probed

import tinylm
from tinylm import Tensor, explain
from tinylm.data.labelled import encode_words
from tinylm.data.tokenizers import CharTokenizer, Tokenizer, WordTokenizer
from tinylm.explain.live.weights import rounded
from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig, RNNModel
from tinylm.models.classifier import Ensemble, LSTMClassifier

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


def small_models() -> dict[str, tuple[Any, Tokenizer]]:
    tinylm.manual_seed(0)
    n = CHARACTERS.vocab_size
    return {
        "gpt": (GPT(GPTConfig(vocab_size=n, block_size=24, n_layer=2, n_head=2, n_embd=16)), CHARACTERS),
        "llama": (Llama(LlamaConfig(vocab_size=n, block_size=24, n_layer=2, n_head=4, n_kv_head=2, n_embd=16, n_hidden=24)), CHARACTERS),
        "lstm": (RNNModel("lstm", n, 12, 16, 2, dropout=0.0), CHARACTERS),
        "classifier": (Ensemble([LSTMClassifier(WORDS.vocab_size, 6, 8) for _ in range(2)]), WORDS),
    }


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
