"""scripts/train.py and scripts/generate.py as a person runs them."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40
SHAPE = ["--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--block-size", "16", "--batch-size", "4", "--log-every", "5"]


def script(name: str, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPTS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, "PYTHONWARNINGS": "error"})


def fails_with_one_line(result: subprocess.CompletedProcess[str], message: str) -> None:
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "fox.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    folder = data.parent / "run"
    result = script("train.py", "--data", data, "--out", folder, "--steps", 10, *SHAPE)
    assert result.returncode == 0, result.stderr
    assert "validation loss" in result.stdout
    assert "tokens/s" in result.stdout
    assert "a sample:" in result.stdout
    assert json.loads((folder / "summary.json").read_text(encoding="utf-8"))["steps"] == 10
    return folder


@pytest.mark.parametrize("name", ["train.py", "doctor.py", "benchmark.py"])
def test_dry_runs_leave_nothing_behind(name: str, tmp_path: Path) -> None:
    result = script(name, "--dry-run", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["train.py", "generate.py", "doctor.py", "benchmark.py"])
def test_help(name: str) -> None:
    result = script(name, "--help")
    assert result.returncode == 0
    assert "--dry-run" in result.stdout


def test_the_default_folder_is_never_overwritten(data: Path, tmp_path: Path) -> None:
    for name in ("gpt-fox", "gpt-fox-2"):
        assert script("train.py", "--data", data, "--steps", 1, *SHAPE, cwd=tmp_path).returncode == 0
        assert (tmp_path / "runs" / name / "summary.json").exists()


def test_generation_is_seeded(run: Path) -> None:
    texts = [script("generate.py", run, "--prompt", "the ", "--tokens", 30, "--seed", seed).stdout for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("the ")
    assert len(texts[0]) == 4 + 30 + 1


def test_resume_keeps_the_settings(run: Path) -> None:
    result = script("train.py", "--resume", run, "--steps", 15)
    assert result.returncode == 0, result.stderr
    assert json.loads((run / "summary.json").read_text(encoding="utf-8"))["steps"] == 15
    fails_with_one_line(script("train.py", "--resume", run, "--n-embd", 32), "--n-embd 32: the run in")
    fails_with_one_line(script("train.py", "--resume", run, "--out", "x"), "--out and --resume")


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
    assert (folder / "checkpoints" / "last.safetensors").exists()


def test_bad_input_is_one_line_and_status_2(run: Path, data: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.txt"
    out = tmp_path / "never"
    for content, message in [(b"", "is empty"), (b"\xff\xfe\x00", "not UTF-8"), (b"a\0b" * 1000, "zero byte"), (b"abc", "too short")]:
        bad.write_bytes(content)
        fails_with_one_line(script("train.py", "--data", bad, "--out", out), message)
    fails_with_one_line(script("train.py", "--data", tmp_path / "none.txt", "--out", out), "no such data")
    fails_with_one_line(script("train.py", "--data", data, "--n-embd", 30, "--out", out), "not divisible by n_head 4")
    fails_with_one_line(script("train.py", "--device", "tpu", "--out", out), "unknown device 'tpu'")
    assert not out.exists()
    fails_with_one_line(script("train.py", "--resume", tmp_path), "config.json")
    fails_with_one_line(script("generate.py", run, "--prompt", "été"), "unknown character 'é' at position 0")
    fails_with_one_line(script("generate.py", run, "--temperature", 0), "temperature 0.0")
    fails_with_one_line(script("generate.py", run, "--top-k", 1000), "top_k 1000")
    fails_with_one_line(script("generate.py", run, "--prompt", ""), "prompt is empty")
    fails_with_one_line(script("generate.py", tmp_path / "none"), "no run folder")


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed here")
def test_a_missing_gpu_is_one_line(data: Path, tmp_path: Path) -> None:
    fails_with_one_line(script("train.py", "--device", "cuda", "--out", tmp_path / "never"), "needs CuPy, which is not installed")
    assert not (tmp_path / "never").exists()
