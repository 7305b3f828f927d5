"""The live page: one HTML file with a trained model inside, which computes whatever text is typed and shows every number on the way."""

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.data.tokenizers import Tokenizer
from tinylm.errors import ConfigError
from tinylm.explain.live.recorded_run import recorded_run
from tinylm.explain.live.scripts import engine_scripts
from tinylm.explain.live.tokens import live_tokenizer
from tinylm.explain.live.weights import described, live_problem, logits_of, packed, rounded
from tinylm.explain.reading import ClassifierReading, LanguageReading, Reading
from tinylm.explain.web_page import backward_record, backward_script, backward_style
from tinylm.files.atomic import write_atomically
from tinylm.models import LanguageModel
from tinylm.models.classifier import TextClassifier
from tinylm.nn import Module
from tinylm.pages.document import document, resource

# In this order; together they are one function, so that their names are their own.
_SCRIPTS = (
    "elements.js", "strips.js", "tokens_row.js", "predictions.js", "steps.js", "heads.js", "units.js", "cell.js", "decision.js",
    "switches.js", "recorded.js", "page.js",
)  # fmt: skip
_STYLES = ("live.css", "numbers.css")
_KINDS = {
    "gpt": "GPT", "llama": "Llama", "rnn": "Recurrent network", "lstm": "LSTM", "gru": "GRU", "lstm-classifier": "Bidirectional LSTM",
    "transformer-classifier": "Transformer encoder",
}  # fmt: skip


@dataclass(frozen=True)
class ModelPage:
    """A page about a model, which a notebook shows inline.  content: the HTML file.  problem: "" if the page computes the model
    itself, else why it shows a recorded run."""

    content: bytes
    problem: str

    def _repr_html_(self) -> str:
        inside = html.escape(self.content.decode("utf-8"))
        return f'<iframe srcdoc="{inside}" title="Inside the model" style="width: 100%; height: 900px; border: 0"></iframe>'

    def __repr__(self) -> str:
        return f"ModelPage({len(self.content):,} bytes, {'a recorded run: ' + self.problem if self.problem else 'live'})"


def model_page(
    model: LanguageModel | TextClassifier,
    tokenizer: Tokenizer,
    text: str,
    path: str | Path | None = None,
    exact: bool = False,
    *,
    labels: tuple[str, ...] = ("0", "1"),
) -> ModelPage:
    """Writes a page with the model inside to `path`, if there is one, and returns it; it needs no other file and no network.

    The page computes the text, and whatever is typed in its place, and shows each activation under its name (`names`), the logit
    lens, the loss, and what changes when heads, MLPs, units or weights are scaled; a second tab is the backward pass of `text`.
    Weights are rounded to float16, or float32 if `exact`; the page says how far that moves the logits. A model of more than
    three million parameters, of another kind than models.js computes, or with tokens that are neither characters nor words, is
    shown as it read `text`, which cannot be changed then. labels: of a classifier's classes; of more than two the page shows the
    one that the text has, against all others.

    Raises ConfigError for a text too short or too long; DataError for characters that the tokenizer does not know; RangeError for
    weights that are not finite, or too large for float16; CheckpointError if the file cannot be written.
    """
    device = str(next(iter(model.parameters())).device)
    if isinstance(model, TextClassifier):
        return reading_page(ClassifierReading(model, tokenizer, labels, text, None, device), path, exact)
    return reading_page(LanguageReading(model, tokenizer, text, device), path, exact)


def reading_page(reading: Reading, path: str | Path | None = None, exact: bool = False) -> ModelPage:
    """As `model_page`, of a model that reads a text, also of a translator."""
    problem = "a translator reads two texts" if reading.tokenizer is None else live_problem(reading.model, reading.tokenizer)
    data: dict[str, Any] = {
        "text": reading.text, "labels": _two_labels(reading), "about": about(reading.model), "problem": problem, "model": None,
        "tokenizer": None, "rounding": "", "run": None,
        "loss": reading.about, "backward": backward_record(reading.loss(), model=reading.model, about=reading.about),
    }  # fmt: skip
    if problem or reading.tokenizer is None:
        data["run"] = recorded_run(reading)
    else:
        data["model"] = packed(reading.model, exact)
        data["tokenizer"] = live_tokenizer(reading.tokenizer, classifier=reading.labels is not None)
        data["rounding"] = rounding(reading, exact)
    own = "".join(resource("tinylm.explain.live", name) for name in _SCRIPTS)
    scripts = [*engine_scripts(), _alone(backward_script(), "drawBackward"), f"(() => {{\n{own}}})();\n"]
    styles = [backward_style(), *(resource("tinylm.explain.live", name) for name in _STYLES)]
    content = document("Inside the model", resource("tinylm.explain.live", "page.html"), styles=styles, scripts=scripts, data=data)
    if path is not None:
        write_atomically(Path(path), content)
    return ModelPage(content, problem)


def _two_labels(reading: Reading) -> tuple[str, ...] | None:
    """Returns the labels that the page decides between: of more than two classes the text's own and all the others."""
    if isinstance(reading, ClassifierReading) and len(reading.labels) > 2:
        return "another label", reading.label
    return reading.labels


def _alone(script: str, name: str) -> str:
    """Returns a script that defines one name only, so that others can have the same names inside."""
    return f"const {name} = (() => {{\n{script}\nreturn {name};\n}})();\n"


def about(model: Module) -> str:
    """Returns what the model is, in one sentence."""
    count = f"{model.num_parameters():,} parameters"
    try:
        kind, config = described(model)
    except ConfigError:
        return f"{type(model).__name__}, {count}."
    members = config.get("members", [])
    if members:
        kind, config = members[0]["kind"], members[0]["config"]
    shape = [f"{config['n_layer']} layer{'s' if config['n_layer'] > 1 else ''}"]
    shape += [f"{config['n_head']} heads each"] if "n_head" in config else []
    shape += [f"{config['n_hidden']} units" + (" per direction" if config["bidirectional"] else "")] if "bidirectional" in config else []
    shape += [f"embeddings {config['n_embd']} wide", f"{config['vocab_size']:,} tokens"]
    shape += [f"context {config['block_size']}"] if config.get("block_size") and "classifier" not in kind else []
    begin = f"{len(members)} members, each a {_KINDS[kind]}" if members else _KINDS[kind]
    return f"{begin}: {', '.join(shape)}; {count}."


def rounding(reading: Reading, exact: bool) -> str:
    """Returns how far rounding the weights moves the logits of the text, in one sentence."""
    if exact:
        return "The page computes with the weights as they were trained, in float32."
    before, after = (logits_of(model, reading.ids) for model in (reading.model, rounded(reading.model, exact)))
    moved = abs(after - before)
    how = f"at most {moved.max():.2g}, {moved.mean():.2g} on average" if moved.size > 1 else f"{float(moved):.2g}"
    which = "logits" if moved.size > 1 else "logit"
    return f"The page's weights are rounded to 16 bits (exact keeps 32), which moves the {which} of “{_short(reading.text)}” by {how}."


def _short(text: str) -> str:
    return " ".join(text.split()) if len(text) <= 40 else " ".join(text[:40].split()) + "…"
