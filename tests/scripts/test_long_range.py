"""scripts/long_range.py as a user runs it."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from script_helpers import Result, fails_with_one_line, script, script_here

from tinylm.data import split_text
from tinylm.decode import token_log_probabilities
from tinylm.decode.context import sample_positions
from tinylm.files.json_files import write_json
from tinylm.train import Counting, Run, default_config, load_run

TEXT = "the quick brown fox jumps over the lazy dog.\nwhat does not fit, is it the dog?\n" * 20
PNG = b"\x89PNG\r\n\x1a\n"


def trained(folder: Path, model: str, text: Path, **changes: object) -> Path:
    settings = {
        "n_layer": 1, "n_embd": 16, "block_size": 8, "batch_size": 8, "order": 3,
        "steps": 10, "schedule_steps": 10, "warmup": 2, "lr": 1e-2,
    }  # fmt: skip
    config = dataclasses.replace(default_config(model), data=str(text), **(settings | changes))  # type: ignore[arg-type]
    (Counting if model == "ngram" else Run)(config, folder, text.read_text(encoding="utf-8")).train()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("runs")
    text = parent / "text.txt"
    text.write_text(TEXT, encoding="utf-8")
    return {model: trained(parent / model, model, text) for model in ("ngram", "gru", "gpt")}


def rows(result: Result) -> list[list[str]]:
    assert result.returncode == 0, result.stdout + result.stderr
    return [line.split() for line in result.stdout.splitlines()]


# ---------------------------------------------------------------- context


def test_the_table_and_the_files_are_the_librarys_figures(runs: dict[str, Path], tmp_path: Path) -> None:
    """Each cell equals windows scored one by one; '-' where a Transformer's block ends."""
    folders = list(runs.values())
    shown = rows(
        script_here("long_range.py", "context", *folders, "--contexts", 1, 8, 20, "--positions", 30, "--seed", 4, "--out", tmp_path)
    )
    record = json.loads((tmp_path / "context.json").read_text(encoding="utf-8"))
    table = {cells[0]: cells[1:] for cells in shown if cells[:1] in (["1"], ["8"], ["20"])}
    _, tokenizer, _ = load_run(folders[0])
    ids = tokenizer.encode(split_text(TEXT)[1])
    positions = sample_positions(len(ids), 20, 30, seed=4)
    assert record["positions"] == positions.tolist()
    for column, folder in enumerate(folders):
        model, _, _ = load_run(folder)
        found = record["runs"][str(folder)]
        assert found["contexts"] == ([1, 8] if folder.name == "gpt" else [1, 8, 20])
        for i, c in enumerate(found["contexts"]):
            losses = [-token_log_probabilities(model, ids[t - c : t + 1])[-1] for t in positions]
            assert found["loss"][i] == pytest.approx(np.mean(losses), rel=1e-5)
            assert found["standard_error"][i] == pytest.approx(np.std(losses, ddof=1) / math.sqrt(30), rel=1e-4)
            cells = table[str(c)][3 * column : 3 * column + 3]
            assert cells == [f"{found['loss'][i]:.4f}", "±", f"{found['standard_error'][i]:.4f}"]
    assert table["20"][-1] == "-"
    assert (tmp_path / "context.png").read_bytes().startswith(PNG)
    assert shown[-2] == ["nats/token,", "mean", "±", "standard", "error", "of", "the", "same", "30", "validation", "tokens"]


def test_a_block_too_short_for_every_context(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = rows(script_here("long_range.py", "context", runs["gpt"], "--contexts", 9, 10, "--out", tmp_path))
    assert [cells for cells in shown if cells[-1] == "-"] == [["9", "-"], ["10", "-"]]
    assert (tmp_path / "context.png").exists()


def test_runs_that_do_not_fit(runs: dict[str, Path], tmp_path: Path) -> None:
    def fails(message: str, *arguments: object) -> None:
        fails_with_one_line(script_here("long_range.py", "context", *arguments, "--out", tmp_path / "never"), message)

    fails("no run folder", tmp_path / "none")
    write_json(tmp_path / "translation" / "config.json", {"task": "translation", "train": {}, "vocabulary": {}})
    fails("was trained for another task: translation, expected language modeling", tmp_path / "translation")
    fails("expected more than 256, the longest context", runs["gpt"])
    few = ("--contexts", 1)
    fails("context is 0: expected at least 1", runs["gpt"], "--contexts", 4, 0)
    fails("positions is 1: expected at least 2", runs["gpt"], *few, "--positions", 1)
    fails("seed -1 is out of range", runs["gpt"], *few, "--seed", -1)
    fails("unknown device 'tpu'", runs["gpt"], *few, "--device", "tpu")
    fails("runs: expected at least one", *few)
    fails("Unrecognized options: --magic", runs["gpt"], "--magic")
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("quick", "kciuq") + "the", encoding="utf-8")
    fails("do not validate on the same tokens", runs["gpt"], trained(tmp_path / "data", "ngram", other), *few)
    words = trained(tmp_path / "words", "ngram", runs["gpt"].parent / "text.txt", tokenizer="word")
    fails("do not validate on the same tokens", runs["gpt"], words, *few)
    other.unlink()
    fails(f"the data of {tmp_path / 'data'}: no such data", tmp_path / "data", *few)
    assert not (tmp_path / "never").exists()


# ---------------------------------------------------------------- copy


def test_copying_is_tested_and_written(tmp_path: Path) -> None:
    result = script_here(
        "long_range.py", "copy", "--models", "ngram", "rnn", "--gaps", 5, 9, "--steps", 20, "--sequences", 40, "--out", tmp_path
    )
    shown = rows(result)
    record = json.loads((tmp_path / "copy.json").read_text(encoding="utf-8"))
    assert record["gaps"] == [5, 9]
    assert list(record["accuracy"]) == ["ngram", "rnn"]
    for name, values in (*record["accuracy"].items(), ("chance", [1 / 8, 1 / 8])):
        assert [name, *(f"{100 * a:.1f}" for a in values)] in shown
    assert record["models"]["rnn"]["steps"] == 20
    assert (tmp_path / "copy.png").read_bytes().startswith(PNG)


def test_bad_settings_of_copying(tmp_path: Path) -> None:
    for arguments, message in [
        (["--models", "ngram", "oracle"], "model 'oracle': expected one of ngram, rnn, lstm, gpt"),
        (["--gaps", 5, 0], "gap is 0: expected at least 1"),
        (["--gaps"], "gaps: expected at least one"),
        (["--steps", 0], "steps is 0: expected at least 1"),
        (["--sequences", 0], "sequences is 0: expected at least 1"),
        (["--seed", -1], "seed -1 is out of range"),
    ]:
        fails_with_one_line(script_here("long_range.py", "copy", *arguments, "--out", tmp_path / "never"), message)
    fails_with_one_line(script_here("long_range.py", "paste"), "command 'paste': expected 'copy' or 'context'")
    assert not (tmp_path / "never").exists()


# ---------------------------------------------------------------- both


def test_dry_runs_write_nothing(runs: dict[str, Path], tmp_path: Path) -> None:
    shown = rows(script("long_range.py", "copy", "--dry-run", cwd=tmp_path))
    assert [cells[0] for cells in shown[1:]] == ["ngram", "rnn", "lstm", "gpt", "chance"]
    shown = rows(script_here("long_range.py", "context", runs["gru"], "--contexts", 1, 4, "--dry-run", "--out", tmp_path))
    assert "10" in shown[-1]
    assert list(tmp_path.iterdir()) == []


def test_help() -> None:
    for arguments in ((), ("--help",)):
        result = script_here("long_range.py", *arguments)
        assert result.returncode == 0
        assert "usage: python scripts/long_range.py copy" in result.stdout
    for command, flags in (("copy", ("--gaps", "--steps")), ("context", ("--positions", "--contexts"))):
        result = script_here("long_range.py", command, "--help")
        assert result.returncode == 0
        for flag in (*flags, "--out", "--dry-run"):
            assert flag in result.stdout
