"""A run as one HTML page: its result, its curves, its settings, and how the model reads a text."""

import html
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tinylm.errors import CheckpointError, ConfigError
from tinylm.explain.attention_maps import Attention
from tinylm.explain.attention_pictures import EXPLANATION, draw_head
from tinylm.explain.figures import LightAndDark, light_and_dark
from tinylm.explain.gate_pictures import draw_gate, question
from tinylm.explain.gates import Gates
from tinylm.explain.plots import figures
from tinylm.explain.reading import Part, read_run
from tinylm.explain.setting_labels import result_rows, setting_rows
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import read_json
from tinylm.files.regular_files import exists
from tinylm.pages.document import document
from tinylm.pretrained.model_loading import find_pretrained
from tinylm.train.metrics import read_metrics

_MAY_DIFFER = ("steps", "device", "log_every", "eval_every", "save_every", "sample_every")  # between two runs that are the same training

STYLE = """
.pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; margin-bottom: 1rem; }
figure { margin: 0; min-width: 0; max-width: 100%; break-inside: avoid; }
figcaption { font-weight: 600; }
blockquote { margin: 0 0 .75rem; padding: .25rem .75rem; border-left: 3px solid var(--line); white-space: pre-wrap; }
.report td:last-child { padding-right: 0; }
.report td { overflow-wrap: break-word; font-variant-numeric: tabular-nums; }
.report td.long { overflow-wrap: anywhere; }
@media (max-width: 600px) { .report td { padding-right: .6rem; } }
"""


class ReportFile(type(Path())):  # type: ignore[misc]
    """The path of a report, which shows the page in a notebook."""

    def _repr_html_(self) -> str:
        page = self.read_text(encoding="utf-8", errors="replace") if self.is_file() else html.escape(f"{self} is no longer there")
        return f'<iframe title="report" style="width: 100%; height: 40rem; border: 0" srcdoc="{html.escape(page)}"></iframe>'


def report(
    folder: str | Path, out: str | Path | None = None, *, ngram: str | Path | None = None, torch: str | Path | None = None,
    text: str | None = None,
) -> Path:  # fmt: skip
    """Writes report.html into a run folder, or the file `out`, and returns its path. The page needs no other file.

    It shows summary.json, the curves that metrics.jsonl allows, the samples drawn in training and the settings. ngram: the run folder of an
    n-gram model of the same tokens, whose validation loss is drawn too. torch: the run folder of the same
    training by PyTorch, as scripts/train_torch.py writes it, whose curves are drawn too. text: the model reads it, and
    the page shows its attention or its gates; of an ensemble, those of its first member.
    Raises CheckpointError if a folder is no run; ConfigError if the runs have other tokens or settings, or for a
    text that the model cannot read; DataError.
    """
    folder = Path(folder)
    record = run_record(folder)
    summary = read_json(folder / "summary.json") if exists(folder / "summary.json") else {}
    level = None if ngram is None else _ngram_loss(Path(ngram), record)
    records = read_metrics(folder / "metrics.jsonl")
    theirs = [] if torch is None else _same_training(Path(torch), record)
    title = f"Run {folder.resolve().name}"
    parts = [f"<h1>{html.escape(title)}</h1>\n", _table("Result", result_rows(summary, record["train"]))]
    # Counting is one step, and a single point is no curve.
    counted = record["train"].get("model") == "ngram"
    curves = {} if counted else light_and_dark(lambda: figures(records, level, theirs))
    if curves:
        parts.append(f"<h2>Training</h2>\n{pictures(curves, captions=True)}")
    parts.append(_samples(sampled(records)))
    if text is not None:
        parts += [f"<h2>Reading</h2>\n<blockquote>{html.escape(text)}</blockquote>\n", *_reading(folder, text)]
    parts.append(_table("Settings", setting_rows(record["train"], record.get("task", ""))))
    path = folder / "report.html" if out is None else Path(out)
    write_atomically(path, document(title, "".join(parts), styles=[STYLE]))
    return ReportFile(path)


def sampled(records: Iterable[Mapping[str, Any]]) -> dict[int, str]:
    """Returns the samples that were drawn while a run was trained, by step."""
    return {record["step"]: record["sample"] for record in records if isinstance(record.get("sample"), str)}


def _samples(texts: Mapping[int, str]) -> str:
    """Returns the part of the page with the samples: the last one, and the others to be opened."""
    if not texts:
        return ""
    shown = [f"<h3>after step {step:,}</h3>\n<blockquote>{html.escape(text)}</blockquote>\n" for step, text in texts.items()]
    before = f"<details><summary>the {len(shown) - 1} before it</summary>\n{''.join(shown[:-1])}</details>\n" if shown[1:] else ""
    return f"<h2>What the model said while it was trained</h2>\n{shown[-1]}{before}"


def run_record(folder: Path) -> dict[str, Any]:
    """Returns config.json of the run that a report is about. Raises CheckpointError if the folder is no run."""
    if find_pretrained(folder) is not None:
        raise CheckpointError(f"{folder} is a model from elsewhere, which has no training to report: expected a run folder")
    record = read_json(folder / "config.json")
    if not isinstance(record, dict) or not isinstance(record.get("train"), dict):
        raise CheckpointError(f"{folder / 'config.json'} is not the config of a tinylm run")
    return record


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    kinds = ("<td>", '<td class="long">')
    cells = "".join(f"<tr><td>{html.escape(label)}{kinds[len(value) > 20]}{html.escape(value)}\n" for label, value in rows)
    return f'<h2>{html.escape(title)}</h2>\n<table class="report">\n{cells}</table>\n' if cells else ""


def pictures(made: Mapping[str, LightAndDark], captions: bool = False) -> str:
    """Returns pictures side by side, as many as the page is wide."""
    shown = [(f"<figcaption>{html.escape(title)}</figcaption>" if captions else "") + it.html(title) for title, it in made.items()]
    return '<div class="pictures">\n' + "".join(f"<figure>{picture}</figure>\n" for picture in shown) + "</div>\n"


def _ngram_loss(folder: Path, record: Mapping[str, Any]) -> float:
    """Returns the validation loss of an n-gram run. Raises ConfigError if its tokens are not those of the run with the config `record`."""
    other = read_json(folder / "config.json")
    if not isinstance(other, dict) or other.get("tokenizer") != record.get("tokenizer"):
        raise ConfigError(f"{folder} has other tokens than the run: their losses cannot be compared")
    try:
        return float(read_json(folder / "summary.json")["val_loss"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{folder / 'summary.json'} has no val_loss") from error


def _same_training(folder: Path, record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the metrics of a run. Raises ConfigError if its tokens or settings, apart from how far it goes, are not
    those of the run with the config `record`."""
    other = read_json(folder / "config.json")
    if not isinstance(other, dict) or other.get("tokenizer") != record.get("tokenizer") or not isinstance(other.get("train"), dict):
        raise ConfigError(f"{folder} has other tokens than the run: their losses cannot be compared")
    for name, value in record["train"].items():
        if name not in _MAY_DIFFER and other["train"].get(name) != value:
            raise ConfigError(f"{folder} was trained with {name} {other['train'].get(name)}, and the run with {value}")
    return read_metrics(folder / "metrics.jsonl")


def _reading(folder: Path, text: str) -> Iterator[str]:
    """Yields the parts of the page that show how the model reads a text."""
    reading = read_run(folder, text)
    for part in reading.parts(reading.attention()):
        yield f"<h3>Attention{_of(part)}: which tokens each head looks at</h3>\n<p>{EXPLANATION}</p>\n"
        for layer in _one_model(part):
            yield pictures(light_and_dark(partial(_draw_heads, layer, part)))
    for part in reading.parts(reading.gates()):
        yield f"<h3>Gates and states{_of(part)}, token by token</h3>\n<p>{question(part.layers, part.tokens)}</p>\n"
        for layer in _one_model(part):
            yield pictures(light_and_dark(partial(_draw_gates, layer, part)))


def _one_model(part: Part) -> list[Any]:
    """Returns the layers of a part; of an ensemble, those of its first member."""
    return [layer for layer in part.layers if not layer.name.startswith("members.") or layer.name.startswith("members.0.")]


def _draw_heads(layer: Attention, part: Part) -> dict[str, Figure]:
    heads = range(layer.weights.shape[1])
    return {f"{layer.name}, head {i}": draw_head(layer, i, part.tokens, part.sources, bar=i == heads[-1]) for i in heads}


def _draw_gates(layer: Gates, part: Part) -> dict[str, Figure]:
    return {f"{layer.name}, {name}": draw_gate(layer, name, part.tokens) for name in layer.values}


def _of(part: Part) -> str:
    return {"": "", "source": " from target to source"}.get(part.name, f" of the {part.name}")
