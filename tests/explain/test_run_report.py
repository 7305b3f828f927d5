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
from tinylm.explain.setting_labels import result_rows, setting_rows
from tinylm.train import Counting, Run, default_config
from tinylm.train.records import summary_of
from tinylm.train.state import Progress
from tinylm.train.tasks import classifier_config, translation_config

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
    found = re.findall(
        r'<img alt="([^"]*)" width="\d+" height="\d+" src="data:image/png;base64,([^"]*)">', path.read_text(encoding="utf-8")
    )
    return {title: base64.b64decode(data) for title, data in found}


@pytest.fixture(scope="module")
def gpt_report(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of the report, since other tests write theirs to the same path."""
    path = explain.report(runs["gpt"], ngram=runs["ngram"], text=SENTENCE)
    assert path == runs["gpt"] / "report.html"
    return path.rename(tmp_path_factory.mktemp("report") / "report.html")


def cells(path: Path) -> dict[str, str]:
    """Returns the tables of a report: values by labels."""
    return dict(re.findall(r'<tr><td>(.*)<td(?: class="long")?>(.*)\n', path.read_text(encoding="utf-8")))


def test_a_gpts_report(runs: dict[str, Path], gpt_report: Path) -> None:
    shown = images(gpt_report)
    heads = [f"h.{i}.attn, head {j}" for i in (0, 1) for j in (0, 1)]
    assert list(shown)[3:] == ["Norm of the gradient by layer", *heads]
    assert all(image.startswith(PNG) for image in shown.values())
    text = gpt_report.read_text(encoding="utf-8")
    assert text.count('(prefers-color-scheme: dark)" srcset=') == len(shown), "each has a dark counterpart"
    summary = json.loads((runs["gpt"] / "summary.json").read_text(encoding="utf-8"))
    found = cells(gpt_report)
    assert found["validation loss (nats per token)"] == f"{summary['val_loss']:.6g}"
    assert found["width of the embeddings (features)"] == "16"
    assert (found["model"], found["a token is"], found["biases in the layers"]) == ("GPT", "a character", "no")
    assert not any("_" in label for label in found), "no bare keys"
    assert "hidden units per layer" not in found
    assert "the lazy dog. &lt;b&gt;" in text
    assert "square root of the weight" in text
    assert re.findall(r'(?:src|href)="(?!data:)[^"]*"', text) == []


def test_every_setting_and_result_has_a_label() -> None:
    same = {"model", "layers", "optimizer", "device"}  # the words of the settings are what people say
    for task, defaults in (
        ("", default_config),
        ("translation", translation_config.default_config),
        ("classification", classifier_config.default_config),
    ):
        for model in defaults.__self__.model_defaults:  # type: ignore[attr-defined]
            config = {**defaults(model).to_json(), "init": "smollm2", "lora_rank": 4, "members": 2}  # type: ignore[operator]
            labels = [label for label, _ in setting_rows(config, task)]
            assert len(labels) == len(set(labels))
            bare = {name.replace("_", " ") for name in config} - same
            assert bare & set(labels) == set()
            assert not any("_" in label for label in labels)
    summary = summary_of(Progress(step=3, val_loss=2.0), 5, 1.0, 6)
    assert {name.replace("_", " ") for name in summary} & {label for label, _ in result_rows(summary, {})} == set()


def test_only_the_settings_that_a_model_has() -> None:
    def labels(model: str, **changes: object) -> set[str]:
        return {label for label, _ in setting_rows({**default_config(model).to_json(), **changes}, "")}

    of_attention = {"attention heads per layer", "activations computed again in the backward pass"}
    assert of_attention < labels("gpt")
    assert not of_attention & labels("lstm")
    assert {"hidden units per layer", "tokens that a gradient goes back over"} < labels("lstm")
    assert "heads of keys and values per layer" in labels("llama") - labels("gpt")
    assert "nonlinearity of the hidden state" in labels("rnn") - labels("gru")
    assert "byte-pair pieces" in labels("gpt", tokenizer="bpe") - labels("gpt") - labels("gpt", tokenizer="bpe", init="smollm2")
    assert "rarest word kept (occurrences)" in labels("gpt", tokenizer="word") - labels("gpt")
    assert labels("ngram") == {
        "model", "trained on", "encoding of the text", "a token is", "longest piece of text that is counted (tokens)",
    }  # fmt: skip
    assert labels("ngram", eval_tokens=9) - labels("ngram") == {"tokens of the validation part that are read, at most"}
    assert "rank of the low-rank adapters" in labels("gpt", lora_rank=4) - labels("gpt")


def test_no_folders_of_the_machine() -> None:
    for path in ("/home/somebody/texts/plays.txt", r"C:\texts\plays.txt", "plays.txt"):
        assert dict(setting_rows({**default_config("gpt").to_json(), "data": path}, ""))["trained on"] == "plays.txt"


def test_a_notebook_shows_the_report(runs: dict[str, Path]) -> None:
    made = explain.report(runs["ngram"])
    assert isinstance(made, Path)
    assert made == runs["ngram"] / "report.html"
    assert made.read_bytes().startswith(b"<!doctype html>")
    assert "&lt;h1&gt;Run ngram&lt;/h1&gt;" in made._repr_html_()  # type: ignore[attr-defined]
    made.unlink()
    assert "no longer there" in made._repr_html_()  # type: ignore[attr-defined]


def test_the_n_gram_line_changes_the_curves(runs: dict[str, Path]) -> None:
    alone = images(explain.report(runs["gpt"]))
    with_ngram = images(explain.report(runs["gpt"], ngram=runs["ngram"]))
    assert list(alone) == list(with_ngram)
    assert [title for title in alone if alone[title] != with_ngram[title]] == ["Training curves"]


def test_other_models_reports(runs: dict[str, Path]) -> None:
    gru = explain.report(runs["gru"], text=SENTENCE)
    assert list(images(gru))[-4:] == [f"rnn.1, {name}" for name in ("reset", "update", "candidate", "h")]
    assert "which take a new one at a space?" in gru.read_text(encoding="utf-8")
    ngram = explain.report(runs["ngram"])
    assert images(ngram) == {}, "counting is one step, and a point is no curve"
    assert "steps trained" not in cells(ngram)


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
    probe = "return [...document.images].map(e => [e.complete && e.naturalWidth, e.getBoundingClientRect().right]);"
    found, console = probed(gpt_report, probe, width, tmp_path)
    assert console == []
    assert len(found) == 8
    assert min(sharp for sharp, _ in found) > 300
    assert max(right for _, right in found) <= width, "no picture is cut off"
