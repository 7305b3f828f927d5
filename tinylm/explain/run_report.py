"""A run as one HTML page: its result, its curves, its settings, and how the model reads a text."""

import base64
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tinylm.errors import CheckpointError, ConfigError
from tinylm.explain.attention_pictures import draw_attention
from tinylm.explain.figures import png
from tinylm.explain.gate_pictures import draw_gates
from tinylm.explain.plots import figures
from tinylm.explain.reading import Part, read_run
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import read_json
from tinylm.files.regular_files import exists
from tinylm.pretrained.model_loading import find_pretrained
from tinylm.train.metrics import read_metrics

_MAY_DIFFER = ("steps", "device", "log_every", "eval_every", "save_every")  # between two runs that are the same training

_HEAD = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>
  body {{ margin: 0 auto; max-width: 60rem; padding: 1rem; font: 1rem/1.45 system-ui, sans-serif; color: #1c2430; }}
  body {{ overflow-wrap: anywhere; }}
  h1 {{ font-size: 1.5rem; }}
  h2 {{ font-size: 1.2rem; margin-top: 2rem; }}
  table {{ border-collapse: collapse; }}
  td {{ padding: .15rem 1rem .15rem 0; border-bottom: 1px solid #d8dee7; vertical-align: top; }}
  img {{ max-width: 100%; height: auto; }}
  .wide {{ overflow-x: auto; }}
  .wide img {{ max-width: none; }}
</style>
<h1>{title}</h1>
"""


def report(folder: str | Path, *, ngram: str | Path | None = None, torch: str | Path | None = None, text: str | None = None) -> Path:
    """Writes report.html into a run folder and returns its path. The page needs no other file.

    It shows summary.json, the curves that metrics.jsonl allows and the settings. ngram: the run folder of an
    n-gram model of the same tokens, whose validation loss is drawn too. torch: the run folder of the same
    training by PyTorch, as scripts/train_torch.py writes it, whose curves are drawn too. text: the model reads it, and
    the page shows its attention or its gates.
    Raises CheckpointError if a folder is no run; ConfigError if the runs have other tokens or settings, or for a
    text that the model cannot read; DataError.
    """
    folder = Path(folder)
    record = run_record(folder)
    summary = read_json(folder / "summary.json") if exists(folder / "summary.json") else {}
    parts = [_HEAD.format(title=html.escape(f"Run {folder.name}")), _table("Result", summary)]
    level = None if ngram is None else _ngram_loss(Path(ngram), record)
    records = read_metrics(folder / "metrics.jsonl")
    theirs = [] if torch is None else _same_training(Path(torch), record)
    parts += [_picture(title, figure) for title, figure in figures(records, level, theirs).items()]
    if text is not None:
        parts += [f"<h2>Reading</h2>\n<p><q>{html.escape(text)}</q></p>\n"]
        parts += [_picture(title, figure, wide=True) for title, figure in _pictures_of_reading(folder, text).items()]
    parts.append(_table("Settings", record["train"]))
    path = folder / "report.html"
    write_atomically(path, "".join([*parts, "</html>\n"]).encode("utf-8", "backslashreplace"))
    return path


def run_record(folder: Path) -> dict[str, Any]:
    """Returns config.json of the run that a report is about. Raises CheckpointError if the folder is no run."""
    if find_pretrained(folder) is not None:
        raise CheckpointError(f"{folder} is a model from elsewhere, which has no training to report: expected a run folder")
    record = read_json(folder / "config.json")
    if not isinstance(record, dict) or not isinstance(record.get("train"), dict):
        raise CheckpointError(f"{folder / 'config.json'} is not the config of a tinylm run")
    return record


def _table(title: str, record: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><td>{html.escape(str(k))}<td>{html.escape(_shown(v))}\n" for k, v in record.items())
    return f"<h2>{html.escape(title)}</h2>\n<table>\n{rows}</table>\n"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if type(value) is int else str(value)


def _picture(title: str, figure: Figure, wide: bool = False) -> str:
    data = base64.b64encode(png(figure)).decode("ascii")
    box = ' class="wide"' if wide else ""
    shown = html.escape(title)
    return f'<h2>{shown}</h2>\n<div{box}><img alt="{shown}" src="data:image/png;base64,{data}"></div>\n'


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


def _pictures_of_reading(folder: Path, text: str) -> dict[str, Figure]:
    reading = read_run(folder, text)
    made: dict[str, Figure] = {}
    for part in reading.parts(reading.attention()):
        made[f"Attention{_of(part)}: the row looks at the columns"] = draw_attention(part.layers, part.tokens, part.sources)
    for part in reading.parts(reading.gates()):
        made[f"Gates and states{_of(part)}, token by token"] = draw_gates(part.layers, part.tokens)
    return made


def _of(part: Part) -> str:
    return {"": "", "source": " from target to source"}.get(part.name, f" of the {part.name}")
