"""Several runs side by side on one HTML page: results, losses, what differs in their settings, samples."""

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinylm.errors import ConfigError
from tinylm.explain.figures import light_and_dark
from tinylm.explain.plots import compared_curves
from tinylm.explain.run_report import STYLE, ReportFile, pictures, run_record, sampled
from tinylm.explain.setting_labels import result_rows, setting_rows
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import read_json
from tinylm.files.regular_files import exists
from tinylm.pages.document import document
from tinylm.train.metrics import read_metrics

_MOST_SAMPLES = 8  # of each run that are shown

_STYLE = """
.compared th, .compared td { min-width: 7rem; overflow-wrap: break-word; font-variant-numeric: tabular-nums; }
.compared thead th { color: var(--ink); vertical-align: bottom; }
.compared .text { min-width: 15rem; white-space: pre-wrap; }
details { margin-top: .5rem; }
summary { cursor: pointer; }
@media (max-width: 600px) {
  .compared thead { display: none; }
  .compared tr { display: block; padding: .25rem 0; border-bottom: 1px solid var(--line); }
  .compared th[scope=row], .compared td { display: block; border: 0; padding: 0; }
  .compared td:empty { display: none; }
  .compared td[data-of]::before { content: attr(data-of) ": "; color: var(--soft); }
  .compared td.text[data-of]::before { content: attr(data-of) ":\\a"; }
}
"""


@dataclass(frozen=True)
class _Compared:
    """What the page shows of one run."""

    record: Mapping[str, Any]  # config.json
    results: Mapping[str, str]  # by their labels, as are the settings
    settings: Mapping[str, str]
    metrics: Sequence[Mapping[str, Any]]
    data: Any  # the digests of what it was trained on; None if they were not noted


def compare_runs(folders: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Writes a page that shows runs of one task side by side, and returns its path. The page needs no other file.

    It shows their results, their losses in one picture, the settings in which they differ, and the samples that were drawn while
    they were trained. out: by default comparison.html beside the first run.
    Raises ConfigError for fewer than two runs, for one that is given twice and for runs of different tasks; CheckpointError if a folder
    is no run.
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) < 2:
        raise ConfigError(f"{len(paths)} runs to compare: expected at least 2")
    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigError("a run is given twice: expected different ones")
    runs = dict(zip(_names(paths), map(_read, paths), strict=True))
    tasks = {name: run.record.get("task", "language modeling") for name, run in runs.items()}
    if len(set(tasks.values())) > 1:
        raise ConfigError(f"the runs are of different tasks: {', '.join(f'{name} of {task!s:.40}' for name, task in tasks.items())}")
    title = f"Runs compared: {', '.join(runs)}"
    parts = [f"<h1>{html.escape(title)}</h1>\n", *_notes(runs), "<h2>Results</h2>\n", _table({n: r.results for n, r in runs.items()})]
    curves = light_and_dark(lambda: _drawn(runs))
    if curves:
        parts.append(f"<h2>Loss</h2>\n<p>Thin lines: in training. Lines with points: in validation.</p>\n{pictures(curves)}")
    parts += [*_settings({name: run.settings for name, run in runs.items()}), _samples({n: sampled(r.metrics) for n, r in runs.items()})]
    path = paths[0].resolve().parent / "comparison.html" if out is None else Path(out)
    write_atomically(path, document(title, "".join(parts), styles=[STYLE, _STYLE]))
    return ReportFile(path)


def _names(paths: Sequence[Path]) -> list[str]:
    """Returns a different name for each folder: its last part, and as many of those before it as are needed."""
    whole = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, whole))):
        names = ["/".join(parts[-length:]) for parts in whole]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _read(folder: Path) -> _Compared:
    record = run_record(folder)
    summary = read_json(folder / "summary.json") if exists(folder / "summary.json") else {}
    note = read_json(folder / "data.json") if exists(folder / "data.json") else {}
    digests = note.get("digests") if isinstance(note, dict) else None
    data = sorted(map(str, digests.values())) if isinstance(digests, dict) and digests else None
    results = dict(result_rows(summary, record["train"])) or {"": "it has not ended yet"}
    settings = dict(setting_rows(record["train"], record.get("task", "")))
    return _Compared(record, results, settings, read_metrics(folder / "metrics.jsonl"), data)


def _notes(runs: Mapping[str, _Compared]) -> Iterable[str]:
    """Yields what a reader must know before comparing the numbers."""
    every = list(runs.values())
    if any(run.record.get("tokenizer") != every[0].record.get("tokenizer") for run in every):
        yield (
            '<p class="notice">The runs have different tokens. Their losses per token, those of the picture too, are therefore no '
            "comparison; those per byte of text are.</p>\n"
        )
    if len({str(run.data) for run in every if run.data is not None}) > 1:
        yield '<p class="notice">The runs were trained on different data.</p>\n'


def _drawn(runs: Mapping[str, _Compared]) -> dict[str, Any]:
    figure = compared_curves({name: run.metrics for name, run in runs.items()})
    return {} if figure is None else {"Losses of all runs": figure}


def _table(columns: Mapping[str, Mapping[str, str]], labels: Iterable[str] | None = None, kind: str = "") -> str:
    """Returns a table with a column per run. columns: values by label, by run. labels: the rows, by default all. kind: the cells' class."""
    rows = list(dict.fromkeys(label for values in columns.values() for label in values)) if labels is None else list(labels)
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "".join(f'<tr><th scope="row">{html.escape(label)}</th>{_cells(columns, label, kind)}</tr>\n' for label in rows)
    return f'<div class="wide"><table class="compared">\n<thead><tr><td></td>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'


def _cells(columns: Mapping[str, Mapping[str, str]], label: str, kind: str) -> str:
    """Returns the cells of a row; in a narrow window, where they stand below each other, each is preceded by the name of its run."""
    kind = f' class="{kind}"' if kind else ""
    values = [(html.escape(name), html.escape(values.get(label, ""))) for name, values in columns.items()]
    return "".join(f'<td{kind} data-of="{name}">{value}</td>' for name, value in values)


def _settings(columns: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    """Yields the table of the settings that differ, and the others, to be opened."""
    labels = list(dict.fromkeys(label for values in columns.values() for label in values))
    differing = [label for label in labels if len({values[label] for values in columns.values() if label in values}) > 1]
    yield "<h2>Settings that differ</h2>\n"
    yield _table(columns, differing) if differing else "<p>None: the runs have the same settings.</p>\n"
    same = [label for label in labels if label not in differing]
    if same:
        count = "1 setting is" if len(same) == 1 else f"{len(same)} settings are"
        first = {label: values[label] for values in columns.values() for label in values}
        cells = "".join(f'<tr><th scope="row">{html.escape(label)}</th><td>{html.escape(first[label])}</td></tr>\n' for label in same)
        told = f"{count} the same in all runs that have them"
        yield f'<details><summary>{told}</summary>\n<table class="compared">\n{cells}</table></details>\n'


def _samples(columns: Mapping[str, Mapping[int, str]]) -> str:
    """Returns the table of what the models said, by step, with a column per run that has samples; "" if none has."""
    columns = {name: texts for name, texts in columns.items() if texts}
    steps = sorted({step for texts in columns.values() for step in texts})
    if not steps:
        return ""
    last = len(steps) - 1
    chosen = [steps[round(i * last / (_MOST_SAMPLES - 1))] for i in range(_MOST_SAMPLES)] if last >= _MOST_SAMPLES else steps
    shown = {name: {f"after step {step:,}": texts[step] for step in chosen if step in texts} for name, texts in columns.items()}
    fewer = f"<p>{len(chosen)} of {len(steps)} steps, evenly spread.</p>\n" if len(chosen) < len(steps) else ""
    rows = [f"after step {step:,}" for step in chosen]
    return f"<h2>What the models said while they were trained</h2>\n{fewer}{_table(shown, rows, 'text')}"
