"""Runs in a notebook: a cell that runs again, what a run says of itself, its progress bar, and its best weights."""

import contextlib
import dataclasses
import io
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import NINE, OPINIONS, TEXT, stop_at, tiny, tiny_classifier, tiny_run

from tinylm.data import open_corpus
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.files.signed_arrays import read_arrays
from tinylm.train import Counting, Run, TrainConfig, load_run, validation_loss
from tinylm.train.run_folder import saved_checkpoints
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.translation import load_translator
from tinylm.train.watching.bars import TerminalBar, numbers_of, shown_bar
from tinylm.train.watching.descriptions import Described

SMALL: dict[str, Any] = {"n_layer": 1, "steps": 6, "schedule_steps": 6, "eval_every": 2, "save_every": 3, "log_every": 2, "ema": 0.0}


def run_of(folder: Path | str, text: Any = TEXT, **changes: Any) -> Run:
    return Run(tiny("gpt", **SMALL | changes), folder, text, exist_ok=True)


# ---------------------------------------------------------------- the cell runs again


def test_a_cell_that_runs_again_goes_on_with_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_of("runs/mine")  # a path as text, and no folder yet
    again = run_of("runs/mine")  # while the first object is still there, as in a notebook
    assert again.progress.step == 0
    with pytest.raises(CheckpointError, match="was opened again later"):
        run.train()
    summary = again.train()
    kept = {path: path.read_bytes() for path in (tmp_path / "runs" / "mine").rglob("*.safetensors")}
    finished = run_of("runs/mine")
    assert finished.progress.step == 6
    assert finished.train() == summary
    assert {path: path.read_bytes() for path in (tmp_path / "runs" / "mine").rglob("*.safetensors")} == kept
    longer = run_of("runs/mine", steps=8)  # a resume may change it
    longer.train()
    assert longer.progress.step == 8


def test_a_stopped_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    stop_at(run := run_of(tmp_path / "stopped"), 3)
    run.train()
    assert run_of(tmp_path / "stopped").train() is not None
    Run(tiny("gpt", **SMALL), tmp_path / "whole", TEXT).train()
    assert (tmp_path / "stopped" / "model.safetensors").read_bytes() == (tmp_path / "whole" / "model.safetensors").read_bytes()


def test_other_settings_and_data_are_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    run_of(tmp_path / "run").train()
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(ConfigError, match=r"lr is 0\.5, and the run in .* was made with 0\.01: with exist_ok=True it goes on"):
        run_of(tmp_path / "run", lr=0.5)
    with pytest.raises(DataError, match="accept_new_data=True goes on with it"):
        run_of(tmp_path / "run", TEXT[::-1])
    with pytest.raises(CheckpointError, match="holds a run already: continue it with resume=True or exist_ok=True"):
        Run(tiny("gpt", **SMALL), tmp_path / "run", TEXT)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"} == kept


def test_a_run_that_trains_is_not_taken_over(tmp_path: Path) -> None:
    run, refused = run_of(tmp_path), []

    def report(record: dict[str, Any]) -> None:
        with pytest.raises(CheckpointError, match=r"in use by process .*, this one: another run object has the folder"):
            run_of(tmp_path)
        refused.append(record["step"])

    run.train(report)
    assert refused


def test_the_other_tasks_go_on_too(tmp_path: Path) -> None:
    first = tiny_classifier(tmp_path / "classifier")
    config = first.task.settings
    again = ClassifierRun(config, OPINIONS, tmp_path / "classifier", exist_ok=True)
    summary = again.train()
    assert ClassifierRun(config, OPINIONS, tmp_path / "classifier", exist_ok=True).train() == summary
    with pytest.raises(ConfigError, match=r"epochs is 9, and the run in .* was made with 3"):
        ClassifierRun(dataclasses.replace(config, epochs=9), OPINIONS, tmp_path / "classifier", exist_ok=True)
    ngrams = tiny("ngram", order=3)
    counted = Counting(ngrams, tmp_path / "counted", TEXT, exist_ok=True).train()
    again_counted = Counting(ngrams, str(tmp_path / "counted"), TEXT, exist_ok=True).train()
    assert again_counted["val_loss"] == counted["val_loss"]
    for text, order, error in ((TEXT[::-1], 3, DataError), (TEXT, 2, ConfigError)):
        with pytest.raises(error):
            Counting(dataclasses.replace(ngrams, order=order), tmp_path / "counted", text, exist_ok=True)


def test_a_fine_tuned_run_goes_on_with_the_shape_that_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Run(tiny("gpt", **SMALL | {"n_embd": 24}), "base", TEXT).train()
    config = TrainConfig(init="base", block_size=8, batch_size=4, steps=2, eval_every=2, warmup=0)
    for _ in range(2):
        run = Run(config, "tuned", TEXT, exist_ok=True)
        assert run.config.n_embd == 24
        run.train()


# ---------------------------------------------------------------- what it says of itself


def test_a_run_says_what_it_is(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    size, kinds = run.model.num_parameters(), len(set(TEXT))
    begin = f"<Run: model gpt, {size:,} parameters; data the text: 1,620 tokens of {kinds} kinds, 180 more for validation; step "
    assert repr(run) == f"{begin}0 of 6; folder {tmp_path / 'run'}>"
    summary = run.train()
    assert summary is not None
    logged = run.state.log
    assert logged is not None
    assert repr(run).startswith(f"{begin}6 of 6; loss {logged.loss:.4f}; validation loss {summary['val_loss']:.4f}")
    assert repr(run_of(tmp_path / "run")) == repr(run)  # the last record's loss is in metrics.jsonl
    table = run._repr_html_()
    assert table.count("<tr>") == 6
    assert f"{size:,} parameters</td>" in table


def test_the_best_validation_is_told_where_it_is_not_the_last(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run")
    run.progress.step, run.progress.val_loss, run.progress.best_val_loss, run.progress.best_step = 6, 2.5, 2.25, 4
    assert "validation loss 2.5000 (best 2.2500 at step 4);" in repr(run)


def test_every_kind_of_run_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a & b.txt").write_text(TEXT, encoding="utf-8")
    run = run_of(tmp_path / "corpus", open_corpus(tmp_path / "a & b.txt"))
    assert f"data {tmp_path}/a & b.txt: " in repr(run)
    assert "/a &amp; b.txt: " in run._repr_html_()
    translator, classifier = tiny_run("translator", tmp_path / "es"), tiny_classifier(tmp_path / "mood")
    assert f"transformer, {translator.model.num_parameters():,} parameters; data web-rv1909: {len(NINE)} pairs for tr" in repr(translator)
    assert "lstm, " in repr(classifier)
    assert "13 texts for training, 4 for the test; step 0 of 12;" in repr(classifier)
    counting = Counting(tiny("ngram", order=3), tmp_path / "counted", TEXT)
    assert repr(counting).startswith("<Counting: model ngram of order 3; data the text: ")
    loss = counting.train()["val_loss"]
    assert f"ngram of order 3, {counting.model.num_parameters():,} parameters; " in repr(counting)
    assert f"validation loss {loss:.4f}" in repr(counting)


def test_what_has_nothing_to_tell() -> None:
    with pytest.raises(NotImplementedError):
        Described().facts()


# ---------------------------------------------------------------- the bar


class Terminal(io.StringIO):
    """A terminal that keeps what is written."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    for name, value in {"TERM": "xterm", "COLUMNS": "140"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def test_a_bar_in_a_terminal(tmp_path: Path, terminal: Terminal) -> None:
    run = run_of(tmp_path / "run")
    with contextlib.redirect_stdout(terminal):
        run.train()
    shown = terminal.getvalue()
    assert "\x1b[" in shown
    assert "6/6" in shown
    assert f"val {run.progress.val_loss:.4f}" in shown
    before = len(shown)
    with contextlib.redirect_stdout(terminal):
        Run(tiny("gpt", **SMALL), tmp_path / "other", TEXT).train(lambda record: None)  # who takes the records shows them
    assert len(terminal.getvalue()) == before


def test_one_bar_at_a_time_and_none_on_other_ranks(tmp_path: Path, terminal: Terminal) -> None:
    run = run_of(tmp_path / "run")
    with contextlib.redirect_stdout(terminal), shown_bar(run.state) as bar, shown_bar(run.state) as second:
        assert isinstance(bar, TerminalBar)
        assert second is None
        bar({"step": 3, "sample": "[red]to be[/b]"})
    assert "step 3/6  a sample:" in terminal.getvalue()
    assert "[red]to be[/b]" in terminal.getvalue()
    run.state.ranks.rank = 1
    with contextlib.redirect_stdout(terminal), shown_bar(run.state) as bar:
        assert bar is None


def test_no_bar_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(tmp_path / "run").train()
    tiny_classifier(tmp_path / "classifier").train()
    assert capsys.readouterr() == ("", "")


def test_a_bar_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: list[tuple[str, str]] = []

    def update(bar: Any) -> None:
        outputs.append((bar._repr_html_(), repr(bar)))

    def display(bar: Any, display_id: bool) -> Any:
        assert display_id
        update(bar)
        return types.SimpleNamespace(update=update)

    ipython, shows = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    monkeypatch.setattr(ipython, "get_ipython", lambda: types.SimpleNamespace(kernel=None), raising=False)
    monkeypatch.setattr(shows, "display", display, raising=False)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", shows)
    monkeypatch.setattr("tinylm.train.watching.bars._REDRAWN", 0.0)
    run = run_of(tmp_path / "run")
    run.train()
    assert outputs[0][1] == "step 0/6"
    assert any("s left" in text for _, text in outputs[1:-1])
    html, text = outputs[-1]
    assert '<progress value="6" max="6"' in html
    assert text.startswith("step 6/6  loss ")
    assert f"val {run.progress.val_loss:.4f}  " in text
    assert "left" not in text
    monkeypatch.setattr("tinylm.train.watching.bars._REDRAWN", 1e9)  # not a hundred times a second
    del outputs[:]
    tiny_classifier(tmp_path / "classifier").train()
    assert len(outputs) == 2
    assert outputs[-1][1].startswith("step 12/12  loss ")
    monkeypatch.setattr(ipython, "get_ipython", lambda: None)  # IPython is loaded, but this is no notebook
    run_of(tmp_path / "other").train()
    assert len(outputs) == 2


def test_the_numbers_of_a_bar() -> None:
    record = {"step": 3, "loss": 1.25, "tokens_per_second": 1234.5, "memory_mb": {"now": 400.2, "peak": 633.0, "device": 5.0}}
    assert numbers_of(record) == {"loss": "loss 1.2500", "speed": "1,234 tokens/s", "memory": "400 MB (peak 633), GPU 5 MB"}
    assert numbers_of({"step": 3, "val_loss": 2.0}) == {"val": "val 2.0000"}
    assert numbers_of({"step": 3, "memory_mb": {"peak": 9.0}}) == {"memory": "9 MB at most"}


# ---------------------------------------------------------------- the best weights


def test_a_run_is_loaded_at_its_best_or_at_its_last(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", steps=8, lr=0.5, min_lr=0.5, warmup=0, dropout=0.0)  # it gets worse
    summary = run.train()
    assert summary is not None
    assert summary["best_step"] < 8
    for checkpoint, loss in (("best", summary["best_val_loss"]), ("last", summary["val_loss"])):
        model, _, _ = load_run(tmp_path / "run", checkpoint=checkpoint)
        assert validation_loss(model, run.task.val_ids, "cpu", block_size=8) == pytest.approx(loss, rel=1e-6)
    assert load_run(tmp_path / "run")[0].state_dict().keys() == model.state_dict().keys()
    with pytest.raises(ConfigError, match="checkpoint 'worst': expected one of last, best"):
        load_run(tmp_path / "run", checkpoint="worst")  # type: ignore[arg-type]


def test_what_has_no_best_weights(tmp_path: Path) -> None:
    stop_at(run := run_of(tmp_path / "run"), 1)
    run.train()
    assert saved_checkpoints(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"there is no .*best\.safetensors: the run has not validated"):
        load_run(tmp_path / "run", checkpoint="best")
    Counting(tiny("ngram", order=3), tmp_path / "counted", TEXT).train()
    one, both = (load_run(tmp_path / "counted", checkpoint=which)[0].state_dict() for which in ("last", "best"))  # type: ignore[arg-type]
    assert all(np.array_equal(one[name], both[name]) for name in one)


def test_the_best_translator(tmp_path: Path) -> None:
    run = tiny_run("translator", tmp_path / "run", steps=3, eval_every=2)
    run.train()
    arrays, _ = read_arrays(tmp_path / "run" / "checkpoints" / "best.safetensors")
    best = load_translator(tmp_path / "run", checkpoint="best").model.state_dict()
    assert all(np.array_equal(best[name], array) for name, array in arrays.items())
