"""The pictures of a run and its page."""

import base64
import dataclasses
import json
import re
import warnings
from pathlib import Path

import pytest
from browser import assert_readable, needs_chromium, probed
from matplotlib.figure import Figure

from tinylm import explain
from tinylm.errors import CheckpointError, ConfigError
from tinylm.explain import plots
from tinylm.explain.figures import png
from tinylm.train import Counting, Run, default_config

TEXT = "the quick brown fox jumps over the lazy dog.\nwhat does not fit, is it the dog?\n" * 20
SENTENCE = "the lazy dog. <b>"
PNG = b"\x89PNG\r\n\x1a\n"
SMALL = {
    "n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 24, "batch_size": 4, "order": 3, "steps": 12, "schedule_steps": 12,
    "warmup": 2, "lr": 1e-2, "log_every": 2, "eval_every": 6,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("runs")
    text = TEXT + "<b>"
    for model in ("gpt", "gru", "ngram"):
        config = dataclasses.replace(default_config(model), **SMALL)  # type: ignore[arg-type]
        (Counting if model == "ngram" else Run)(config, parent / model, text).train()
    config = dataclasses.replace(default_config("ngram"), **SMALL, tokenizer="word")  # type: ignore[arg-type]
    Counting(config, parent / "words", text).train()
    return {path.name: path for path in parent.iterdir()}


# ---------------------------------------------------------------- pictures


RECORDS = [
    {"step": 2, "loss": 3.0, "lr": 0.1, "grad_norm": 5.0, "grad_norms": {"a": 3.0, "b": 4.0}},
    {"step": 4, "loss": 2.0, "lr": 0.2, "grad_norm": 1.0, "grad_norms": {"a": 0.6, "b": 0.8}},
    {"step": 4, "val_loss": 2.5},
    {"step": 6, "loss": 1.0, "lr": 0.1, "grad_norm": 2.0, "grad_norms": {"a": 2.0, "b": 0.0}},
    {"step": 6, "val_loss": 2.25},
]


def lines(figure: Figure) -> dict[str, tuple[list[float], list[float]]]:
    return {str(line.get_label()): (list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines}


def test_curves_are_the_records() -> None:
    made = plots.figures(RECORDS, ngram=1.75)
    assert list(made) == ["Training curves", "Learning rate", "Norm of the gradient before clipping", "Norm of the gradient by layer"]
    training, rate, norm, layers = map(lines, made.values())
    assert training["training"] == ([2, 4, 6], [3.0, 2.0, 1.0])
    assert training["validation, 2.2500 at best"] == ([4, 6], [2.5, 2.25])
    assert training["n-gram, 1.7500"][1] == [1.75, 1.75]
    assert list(rate.values()) == [([2, 4, 6], [0.1, 0.2, 0.1])]
    assert list(norm.values()) == [([2, 4, 6], [5.0, 1.0, 2.0])]
    assert layers == {"a": ([2, 4, 6], [3.0, 0.6, 2.0]), "b": ([2, 4, 6], [4.0, 0.8, 0.0])}


def test_pytorchs_curves_are_its_own_records() -> None:
    theirs = [{"step": 2, "loss": 3.5}, {"step": 4, "loss": 2.25}, {"step": 4, "val_loss": 2.75}]
    training = lines(plots.figures(RECORDS, torch=theirs)["Training curves"])
    assert training["training"] == ([2, 4, 6], [3.0, 2.0, 1.0])
    assert training["validation, 2.2500 at best"] == ([4, 6], [2.5, 2.25])
    assert training["PyTorch: training"] == ([2, 4], [3.5, 2.25])
    assert training["PyTorch: validation, 2.7500 at best"] == ([4], [2.75])
    assert len(training) == 4


def test_only_what_was_recorded() -> None:
    assert list(plots.figures([{"step": 1, "val_loss": 2.0}])) == ["Training curves"]
    assert plots.figures([]) == {}
    assert list(plots.figures([{"step": 1, "loss": 2.0, "lr": 0.1, "grad_norms": {}}])) == ["Training curves", "Learning rate"]


def test_a_png_of_any_characters() -> None:
    figure = Figure()
    figure.add_subplot(title="\U0001f98a 狐")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png(figure).startswith(PNG)


# ---------------------------------------------------------------- the page


def images(path: Path) -> dict[str, bytes]:
    found = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)">', path.read_text(encoding="utf-8"))
    return {title: base64.b64decode(data) for title, data in found}


@pytest.fixture(scope="module")
def gpt_report(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of the report, since other tests write theirs to the same path."""
    path = explain.report(runs["gpt"], ngram=runs["ngram"], text=SENTENCE)
    assert path == runs["gpt"] / "report.html"
    return path.rename(tmp_path_factory.mktemp("report") / "report.html")


def test_a_gpts_report(runs: dict[str, Path], gpt_report: Path) -> None:
    shown = images(gpt_report)
    assert list(shown)[-2:] == ["Norm of the gradient by layer", "Attention: the row looks at the columns"]
    assert len(shown) == 5
    assert all(image.startswith(PNG) for image in shown.values())
    text = gpt_report.read_text(encoding="utf-8")
    summary = json.loads((runs["gpt"] / "summary.json").read_text(encoding="utf-8"))
    assert f"<td>val_loss<td>{summary['val_loss']:.6g}\n" in text
    assert "<td>n_embd<td>16\n" in text
    assert "the lazy dog. &lt;b&gt;" in text
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', text) == []


def test_the_n_gram_line_changes_the_curves(runs: dict[str, Path]) -> None:
    alone = images(explain.report(runs["gpt"]))
    with_ngram = images(explain.report(runs["gpt"], ngram=runs["ngram"]))
    assert list(alone) == list(with_ngram)
    assert [title for title in alone if alone[title] != with_ngram[title]] == ["Training curves"]


def test_other_models_reports(runs: dict[str, Path]) -> None:
    assert list(images(explain.report(runs["gru"], text=SENTENCE)))[-1] == "Gates and states, token by token"
    assert list(images(explain.report(runs["ngram"]))) == ["Training curves"]


def test_invalid_arguments(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        explain.report(tmp_path)
    with pytest.raises(ConfigError, match="other tokens than the run"):
        explain.report(runs["gpt"], ngram=runs["words"])
    with pytest.raises(ConfigError, match="other tokens than the run"):
        explain.report(runs["gpt"], torch=runs["words"])
    with pytest.raises(ConfigError, match="gru was trained with model gru, and the run with gpt"):
        explain.report(runs["gpt"], torch=runs["gru"])
    with pytest.raises(ConfigError, match="an n-gram model counts"):
        explain.report(runs["ngram"], text=SENTENCE)
    with pytest.raises(ConfigError, match="has 25 tokens: expected at most 24"):
        explain.report(runs["gpt"], text=TEXT[:25])
    with pytest.raises(ConfigError, match="has 1 tokens: expected at least 2"):
        explain.report(runs["gru"], text="t")


@needs_chromium()
@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_in_chromium(gpt_report: Path, tmp_path: Path, width: int) -> None:
    assert_readable(gpt_report, width, tmp_path)
    found, console = probed(gpt_report, "return [...document.images].map(e => e.complete && e.naturalWidth);", width, tmp_path)
    assert console == []
    assert len(found) == 5
    assert min(found) > 300
