"""scripts/train.py as a user runs it, for every model; dry runs and help of the other long-running scripts."""

import dataclasses
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from script_helpers import SCRIPTS, ends_well, fails_with_one_line, script, script_here

from tinylm.train import TrainConfig
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.presets import PRESETS, preset

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40
SHAPE = ["--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--block-size", "16", "--batch-size", "4", "--log-every", "5"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "fox.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def trained(*arguments: object) -> str:
    return ends_well(script_here("train.py", *arguments))


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    folder = data.parent / "run"
    shown = ends_well(script("train.py", "--data", data, "--out", folder, "--steps", 10, *SHAPE))
    assert "validation loss" in shown
    assert "tokens/s" in shown
    assert "a sample:" in shown
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["steps"] == 10
    return folder


@pytest.mark.parametrize("name", ["train.py", "doctor.py", "benchmark.py", "compare_models.py"])
def test_dry_runs_leave_nothing_behind(name: str, tmp_path: Path) -> None:
    result = script(name, "--dry-run", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert os.listdir(tmp_path) == []
    assert f"run folder {tmp_path}" not in result.stdout  # no folder is named that is gone by now


@pytest.mark.parametrize(
    ("model", "tokenizer"), [("transformer", "char"), ("rnn", "word"), ("lstm", "char"), ("gru", "bpe"), ("ngram", "word")]
)
def test_every_model_trains(model: str, tokenizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with its own defaults, on the shipped text."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    result = script_here("train.py", "--model", model, "--tokenizer", tokenizer, "--dry-run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert f"{model} on tinyshakespeare" in result.stdout
    shown, _, sample = result.stdout.partition("a sample:\n")
    assert "nats/token over the whole split" in shown
    assert len(sample) > 300  # at least so many characters, since a token has one or more
    assert "<unk>" not in sample
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["train.py", "doctor.py", "benchmark.py", "compare_models.py"])
def test_help(name: str) -> None:
    assert "--dry-run" in ends_well(script_here(name, "--help"))


def test_help_shows_the_defaults_of_the_model() -> None:
    shown = " ".join(ends_well(script_here("train.py", "--model=lstm", "--help")).split())
    assert "(default: 0.003)" in shown
    assert "(default: 1000)" in shown


def test_the_default_folder_is_never_overwritten(data: Path, tmp_path: Path) -> None:
    for name in ("gpt-fox", "gpt-fox-2"):
        assert script_here("train.py", "--data", data, "--steps", 1, *SHAPE, cwd=tmp_path).returncode == 0
        assert (tmp_path / "runs" / name / "summary.json").exists()


def test_resume_keeps_the_settings(run: Path) -> None:
    trained("--resume", run, "--steps", 15)
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["steps"] == 15
    fails_with_one_line(script_here("train.py", "--resume", run, "--n-embd", 32), "--n-embd 32: the run in")
    fails_with_one_line(script_here("train.py", "--resume", run, "--out", "x"), "--out and --resume")


def test_the_other_models_stop_and_go_on(data: Path, tmp_path: Path) -> None:
    trained("--model", "lstm", "--tokenizer", "word", "--data", data, "--out", tmp_path / "lstm", "--steps", 2, *SHAPE)
    assert "gru" not in trained("--resume", tmp_path / "lstm", "--steps", 4)
    assert json.loads((tmp_path / "lstm" / "summary.json").read_text(encoding="utf-8"))["steps"] == 4
    fails_with_one_line(script_here("train.py", "--resume", tmp_path / "lstm", "--model", "gru"), "--model gru: the run in")
    trained("--model", "ngram", "--order", 3, "--data", data, "--out", tmp_path / "ngram")
    fails_with_one_line(script_here("train.py", "--resume", tmp_path / "ngram"), "nothing to resume")
    (tmp_path / "ngram" / "summary.json").unlink()  # as if it had been ended before its last file
    again = script_here("train.py", "--resume", tmp_path / "ngram")
    assert "was ended before it had saved anything: it is begun again" in again.stderr
    assert again.returncode == 0
    assert "validation loss" in again.stdout


def test_a_finished_run_is_said_to_be_finished(run: Path) -> None:
    steps = json.loads((run / "summary.json").read_text(encoding="utf-8"))["steps"]
    shown = trained("--resume", run, "--steps", steps)
    assert f"the run in {run} was finished already, at step {steps}; a larger --steps trains on" in shown
    assert "was finished" not in trained("--resume", run, "--steps", steps + 1)


def test_a_run_that_was_patient_is_finished_too(data: Path, tmp_path: Path) -> None:
    trained("--data", data, "--out", tmp_path / "run", "--lr", 0, "--steps", 9, "--eval-every", 1, "--patience", 1, *SHAPE)
    shown = trained("--resume", tmp_path / "run", "--steps", 20)
    assert "was finished already, at step 2; a larger --patience, or 0, trains on" in shown
    assert "was finished" not in trained("--resume", tmp_path / "run", "--patience", 0)


@pytest.mark.parametrize("script", ["train.py", "translate.py"])
def test_a_model_that_cannot_fit_is_refused_before_its_data_are_read(script: str, tmp_path: Path) -> None:
    verb = ["train"] if script == "translate.py" else []
    result = script_here(script, *verb, "--n-layer", 10**8, "--data", tmp_path / "never")
    fails_with_one_line(result, "of memory, this machine has")


def test_sigterm_at_the_start_is_status_130(tmp_path: Path) -> None:
    """Before the run has its handlers: it ends as after Ctrl-C, and the temporary folder of a dry run is removed."""
    program = """
import os, runpy, signal, sys
from support import run_folders
folder_or_temporary = run_folders.folder_or_temporary

def ended(*given):
    folder = folder_or_temporary(*given)
    folder.__enter__()
    os.kill(os.getpid(), signal.SIGTERM)

run_folders.folder_or_temporary = ended
sys.argv = [sys.argv[1], "--dry-run"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (SCRIPTS.parent, SCRIPTS))), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(SCRIPTS / "train.py")], capture_output=True, text=True, check=False, env=environment
    )
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
    assert os.listdir(tmp_path) == []


def test_ctrl_c_saves(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [sys.executable, str(SCRIPTS / "train.py"), "--data", str(data), "--out", str(folder), "--steps", "1000000", *SHAPE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").read_text(encoding="utf-8"):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--resume {folder}" in output
    assert list((folder / "checkpoints").glob("step-*.safetensors"))


def test_bad_input_is_one_line_and_status_2(run: Path, data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    out = tmp_path / "never"
    for content, message in [(b"", "is empty"), (b"\xff\xfe\x00", "not UTF-8"), (b"a\0b" * 1000, "zero byte"), (b"abc", "too short")]:
        bad.write_bytes(content)
        fails_with_one_line(script_here("train.py", "--data", bad, "--out", out), message)
    fails_with_one_line(script_here("train.py", "--data", tmp_path / "none.txt", "--out", out), "no such data")
    fails_with_one_line(script_here("train.py", "--data", data, "--n-embd", 30, "--out", out), "not divisible by n_head 4")
    fails_with_one_line(script_here("train.py", "--device", "tpu", "--out", out), "unknown device 'tpu'")
    assert not out.exists()
    fails_with_one_line(script_here("train.py", "--resume", tmp_path), "config.json")
    for model, flag, value, message in [
        ("ngram", "--order", 0, "order is 0: expected 1 to 9"),
        ("lstm", "--n-layer", 0, "n_layer is 0"),
        ("lstm", "--batch-size", 400, "400 streams with a block of 64 each need"),
        ("mamba", "--steps", 1, "model 'mamba': expected one of gpt, llama, transformer, rnn, lstm, gru, ngram"),
        ("gpt", "--warmup", 3000, "warmup 3000 is out of range"),
        ("gpt", "--seed", -1, "seed -1 is out of range"),
        ("gpt", "--steps", "abc", "--steps: invalid literal for int() with base 10: 'abc' (--help"),
        ("gpt", "--tokenizer", "magic", "invalid choice 'magic' for argument '--tokenizer'"),
        ("gpt", "--magic", 1, "Unrecognized options: --magic"),
    ]:
        fails_with_one_line(script_here("train.py", "--model", model, flag, value, "--data", data, "--out", out), message)
    assert not out.exists()


def test_tensorboard(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    ends_well(script_here("train.py", "--data", data, "--out", folder, "--steps", 5, "--tensorboard", *SHAPE))
    assert [path.name[:19] for path in (folder / "tensorboard").iterdir()] == ["events.out.tfevents"]
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    fails_with_one_line(
        script_here("train.py", "--data", data, "--out", tmp_path / "never", "--tensorboard"), "pip install 'tinylm[tensorb"
    )
    assert not (tmp_path / "never").exists()


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed here")
def test_a_missing_gpu_is_one_line(data: Path, tmp_path: Path) -> None:
    fails_with_one_line(script_here("train.py", "--device", "cuda", "--out", tmp_path / "never"), "needs CuPy, which is not installed")
    assert not (tmp_path / "never").exists()


# ---------------------------------------------------------------- presets


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_trains_with_its_own_settings_unless_told_otherwise(name: str, data: Path, tmp_path: Path) -> None:
    smaller = ["--n-hidden", 24, "--batch-size", 4, "--steps", 2, "--schedule-steps", 2, "--warmup", 1, "--dropout-ramp", 2]
    trained("--preset", name, "--data", data, "--out", tmp_path / "run", *smaller)
    made, _ = read_config(tmp_path / "run", TrainConfig)
    changed = {"data": str(data), "n_hidden": 24, "batch_size": 4, "steps": 2, "schedule_steps": 2, "warmup": 1, "dropout_ramp": 2}
    assert made == dataclasses.replace(preset(name), **changed)


def test_a_preset_and_what_contradicts_it(run: Path) -> None:
    fails_with_one_line(script_here("train.py", "--preset", "best-10min", "--model", "gpt"), "the preset trains a gru")
    fails_with_one_line(script_here("train.py", "--preset", "best"), "preset 'best': expected one of best-10min, best-20min")
    fails_with_one_line(script_here("train.py", "--resume", run, "--preset", "best-10min"), "a resumed run keeps its own settings")


@pytest.mark.parametrize("tokenizer", ["word", "whitespace"])
def test_unknown_words_are_told_with_the_losses(tokenizer: str, tmp_path: Path) -> None:
    """Before the training and beside its result; and what part of the split a bounded validation reads."""
    data = tmp_path / "owls.txt"
    data.write_text(TEXT + "the owl <unk> jumps over\n" * 7, encoding="utf-8")
    flags = ["--model", "ngram", "--order", "2", "--data", data, "--tokenizer", tokenizer, "--eval-tokens", "25"]
    result = script_here("train.py", *flags, "--out", tmp_path / "run")
    assert result.returncode == 0
    assert result.stderr.startswith("warning: the validation part"), "there they all are"
    shown = result.stdout
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert f"over the first {summary['val_tokens'] + 1} tokens of the split ({summary['val_nats_per_byte']:.4f} nats/byte)" in shown
    some = f"{summary['val_unknown']} of {summary['val_tokens']} tokens are unknown words"
    own = f"{summary['val_own_unknown']} of {summary['val_tokens']} tokens are the text's own <unk>; " if tokenizer == "whitespace" else ""
    said = f"{own}{some}: per token each counts as <unk>, per byte its spelling counts too, {summary['val_spelling']:.4f} nats/token more\n"
    assert f"validation part: {said}" in shown
    assert f" tokens/s\n{said}" in shown
