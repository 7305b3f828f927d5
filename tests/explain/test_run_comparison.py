"""Several runs on one page: results, losses, what differs in their settings, samples; and the command that writes it."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from browser import assert_readable, needs_chromium
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm import explain
from tinylm.errors import CheckpointError, ConfigError
from tinylm.explain.plots import compared_curves
from tinylm.train import Counting, Run, default_config

OLD = Path(__file__).parents[1] / "old_runs"
TEXT = "the quick brown fox jumps over the lazy dog.\nwhat does <b> not fit, is it the dog?\n" * 20
SMALL = {
    "n_layer": 1, "n_head": 2, "n_embd": 8, "n_hidden": 8, "block_size": 16, "batch_size": 2, "order": 3, "steps": 6, "schedule_steps": 6,
    "warmup": 1, "log_every": 2, "eval_every": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("runs")
    for name, model, changes in (
        ("first", "gpt", {"lr": 1e-2, "sample_every": 2}), ("second", "gpt", {"lr": 3e-3, "sample_every": 3}),
        ("lstm", "lstm", {}), ("words", "ngram", {"tokenizer": "word"}),
    ):  # fmt: skip
        config = dataclasses.replace(default_config(model), **{**SMALL, **changes})  # type: ignore[arg-type]
        (Counting if model == "ngram" else Run)(config, parent / name, TEXT).train()
    (parent / "other").mkdir()
    Run(dataclasses.replace(default_config("gpt"), **SMALL), parent / "other" / "first", TEXT[:600]).train()  # type: ignore[arg-type]
    return {path.name: path for path in parent.iterdir()}


def rows_of(page: str, title: str) -> dict[str, list[str]]:
    """Returns the table below a heading: cells by the label of the row."""
    part = page[page.index(f"<h2>{title}</h2>") :].partition("</table>")[0]
    found = re.findall(r'<tr><th scope="row">(.*?)</th>(.*?)</tr>', part, re.DOTALL)
    return {label: re.findall(r"<td[^>]*>(.*?)</td>", cells, re.DOTALL) for label, cells in found}


@pytest.fixture(scope="module")
def page(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "all.html"
    found = explain.compare_runs([runs["first"], runs["second"], runs["lstm"]], out)
    assert found == out
    return out


def test_results_and_what_differs(runs: dict[str, Path], page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<h1>Runs compared: first, second, lstm</h1>" in text
    losses = [json.loads((runs[name] / "summary.json").read_text())["val_loss"] for name in ("first", "second", "lstm")]
    assert rows_of(text, "Results")["validation loss (nats per token)"] == [f"{loss:.6g}" for loss in losses]
    differing = rows_of(text, "Settings that differ")
    assert differing["model"] == ["GPT", "GPT", "LSTM"]
    assert differing["highest learning rate of AdamW"] == ["0.01", "0.003", "0.003"]
    assert differing["steps between samples"] == ["2", "3", "none"]
    assert not {"warmup (steps)", "attention heads per layer", "hidden units per layer"} & set(differing)
    same = text[text.index("the same in all runs that have them</summary>") :]
    assert '<th scope="row">attention heads per layer</th><td>2</td>' in same
    assert '<th scope="row">warmup (steps)</th><td>1</td>' in same
    assert 'class="notice"' not in text
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', text) == []
    assert str(runs["first"]) not in text


def test_samples_side_by_side(runs: dict[str, Path], page: Path) -> None:
    rows = rows_of(page.read_text(encoding="utf-8"), "What the models said while they were trained")
    assert list(rows) == ["after step 2", "after step 3", "after step 4", "after step 6"]
    assert [[bool(cell) for cell in cells] for cells in rows.values()] == [
        [True, False], [False, True], [True, False], [True, True],
    ]  # fmt: skip
    records = [json.loads(line) for line in (runs["second"] / "metrics.jsonl").read_text().splitlines()]
    (sample,) = [record["sample"] for record in records if record["step"] == 3 and "sample" in record]
    assert rows["after step 3"][1] == sample.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def test_many_samples_are_spread_evenly(tmp_path: Path, runs: dict[str, Path]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes((runs["first"] / "config.json").read_bytes())
        lines = [json.dumps({"step": step, "sample": f"text {step}"}) for step in range(1, 101)]
        (tmp_path / name / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    text = explain.compare_runs([tmp_path / "a", tmp_path / "b"]).read_text(encoding="utf-8")
    rows = rows_of(text, "What the models said while they were trained")
    assert list(rows) == [f"after step {step}" for step in (1, 15, 29, 43, 58, 72, 86, 100)]
    assert "8 of 100 steps, evenly spread" in text
    assert "None: the runs have the same settings." in text
    assert "it has not ended yet" in text
    assert (tmp_path / "comparison.html").exists()


def test_all_losses_are_on_one_picture() -> None:
    first = [{"step": 2, "loss": 3.0}, {"step": 4, "loss": 2.0}, {"step": 4, "val_loss": 2.5}]
    figure = compared_curves({"one": first, "two": first[:1] + first[:1], "count": [{"step": 1, "val_loss": 1.75}]})
    assert figure is not None
    drawn = [(str(line.get_label()), list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines]
    assert drawn[0][1:] == ([2, 4], [3.0, 2.0])
    assert drawn[1] == ("one, 2.5000 at best", [4], [2.5])
    assert drawn[2] == ("two", [2, 2], [3.0, 3.0])
    assert drawn[3][0] == "count, 1.7500 at best"
    assert drawn[3][2] == [1.75, 1.75]
    assert compared_curves({"one": [], "two": []}) is None
    members = [{"member": m, "step": 1, "loss": 0.5} for m in (1, 2)]
    ensemble = compared_curves({"one": members, "two": members})
    assert ensemble is not None
    assert ensemble.axes[0].get_ylabel() == "nats per text"
    assert len(ensemble.axes[0].lines) == 4


def test_notes_where_numbers_are_no_comparison(runs: dict[str, Path], tmp_path: Path) -> None:
    text = explain.compare_runs([runs["first"], runs["words"]], tmp_path / "x.html").read_text(encoding="utf-8")
    assert "The runs have different tokens." in text
    assert "different data" not in text
    text = explain.compare_runs([runs["first"], runs["other"] / "first"], tmp_path / "x.html").read_text(encoding="utf-8")
    assert "The runs were trained on different data." in text
    assert "other/first</h1>" in text, "equal names are told apart by their folders"


def test_what_cannot_be_compared(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 runs to compare: expected at least 2"):
        explain.compare_runs([runs["first"]])
    with pytest.raises(ConfigError, match="a run is given twice"):
        explain.compare_runs([runs["first"], runs["lstm"], runs["lstm"] / ".." / "first"])
    with pytest.raises(ConfigError, match="the runs are of different tasks: first of language modeling, translator of translation"):
        explain.compare_runs([runs["first"], OLD / "translator"])
    with pytest.raises(CheckpointError, match=r"config\.json"):
        explain.compare_runs([runs["first"], tmp_path])


def test_translators_and_classifiers(tmp_path: Path) -> None:
    for names in (("translator", "lstm-translator"), ("bag-classifier", "lstm-classifier")):
        text = explain.compare_runs([OLD / name for name in names], tmp_path / "x.html").read_text(encoding="utf-8")
        assert "<h2>Loss</h2>" in text
        assert rows_of(text, "Settings that differ")["model"][1] == "LSTM"


def test_the_command(runs: dict[str, Path], tmp_path: Path) -> None:
    both = runs["first"], runs["second"]
    usual = runs["first"].parent / "comparison.html"
    assert ends_well(script_here("explain.py", "report", *both, "--dry-run")) == f"would write {usual}\n"
    assert not usual.exists()
    assert ends_well(script_here("explain.py", "report", *both)) == f"written: {usual}\n"
    usual.unlink()
    out = tmp_path / "page.html"
    assert ends_well(script_here("explain.py", "report", *both, "--out", out)) == f"written: {out}\n"
    assert "Runs compared" in out.read_text(encoding="utf-8")
    assert ends_well(script_here("explain.py", "report", runs["first"], "--out", out)) == f"written: {out}\n"
    assert "<h1>Run first</h1>" in out.read_text(encoding="utf-8")
    for option in ("--ngram", "--torch", "--text"):
        refused = script_here("explain.py", "report", *both, option, "x")
        fails_with_one_line(refused, f"{option} is for a report of one run, and 2 are given")
    fails_with_one_line(script_here("explain.py", "report"), "no run folder given: expected at least one")


@needs_chromium()
def test_the_page_in_chromium(page: Path, tmp_path: Path) -> None:
    for width in (1280, 400):
        assert_readable(page, width, tmp_path)
