"""scripts/translate.py compare as a user runs it."""

import json
import math
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import sacrebleu
from script_helpers import SCRIPTS, Result, ends_well, fails_with_one_line, script, script_here

from tinylm.train.tasks.translation import load_translator, read_translation
from tinylm.train.tasks.translation_config import default_config

ANIMALS = {"cat": "gato", "dog": "perro", "bird": "pájaro", "horse": "caballo", "wolf": "lobo"}
DOES = {"sleeps": "duerme", "eats": "come", "runs": "corre", "sings": "canta"}
TWENTY = [(f"The {a} {d}.", f"El {b} {e}.") for a, b in ANIMALS.items() for d, e in DOES.items()]
TINY = [
    "--bpe-size", 280, "--n-layer", 1, "--n-embd", 16, "--n-hidden", 16, "--n-head", 2, "--block-size", 24, "--batch-tokens", 100,
    "--steps", 4, "--log-every", 1, "--dropout", 0.0, "--eval-tokens", 20,
]  # fmt: skip
MODELS = ("transformer", "lstm", "torch")


def compare(*arguments: object) -> Result:
    return script_here("translate.py", "compare", *arguments)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "animals.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in TWENTY * 6), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Returns (the folder of a comparison, what it printed)."""
    folder = tmp_path_factory.mktemp("runs")
    result = compare("--data", data, "--out", folder, *TINY)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder, result.stdout


def rows(out: str) -> dict[tuple[str, ...], list[str]]:
    """Returns the numbers of the table by system and decoding."""
    lines = out.split("system  ")[1].split("\n\n")[0].splitlines()[1:]
    found = {}
    for words in map(str.split, lines):
        name = tuple(word for word in words if word[0].isalpha() and word != "s")
        found[name] = [word for word in words[len(name) :] if word != "s"]
    return found


def test_the_table_shows_every_system(runs: tuple[Path, str]) -> None:
    folder, out = runs
    table = rows(out.replace("beam 4", "beam"))
    assert list(table) == [("nearest",), ("lexicon",), *((name, kind) for name in MODELS for kind in ("greedy", "beam"))]
    assert table["nearest",] == ["100.00", "100.00"]  # the test sentences occur in training
    for name in MODELS:
        summary = json.loads((folder / name / "summary.json").read_text())
        for kind in ("greedy", "beam"):
            learned = [f"{summary['val_loss']:.4f}", f"{summary['parameters']:,}", f"{summary['train_seconds']:.0f}"]
            assert table[name, kind][2:] == learned


def test_the_scores_are_those_of_the_models_in_the_folders(runs: tuple[Path, str]) -> None:
    folder, out = runs
    blocks = [dict(line.partition(" ")[::2] for line in block.splitlines()) for block in out.split("\n\n")]  # a translation may be empty
    shown = [block for block in blocks if "source" in block]
    assert len(shown) == 6
    references = [block["reference"].strip() for block in shown]
    table = rows(out.replace("beam 4", "beam"))
    for name in MODELS:
        translator = load_translator(folder / name)
        for beams, kind in ((1, "greedy"), (4, "beam")):
            texts = [translator.translate(block["source"].strip(), beams) for block in shown]
            assert table[name, kind][0] == f"{sacrebleu.corpus_bleu(texts, [references]).score:.2f}"
            assert table[name, kind][1] == f"{sacrebleu.corpus_chrf(texts, [references]).score:.2f}"


def test_pytorch_trains_the_same_transformer(runs: tuple[Path, str]) -> None:
    folder, _ = runs
    found = [
        [(r["lr"], r["loss"]) for r in map(json.loads, (folder / name / "metrics.jsonl").read_text().splitlines()) if "loss" in r]
        for name in ("transformer", "torch")
    ]
    assert len(found[0]) == 4
    for (our_lr, ours), (their_lr, theirs) in zip(*found, strict=True):
        assert our_lr == their_lr
        assert ours == pytest.approx(theirs, rel=2e-3)
    assert found[0] != found[1]  # PyTorch computes them differently


def test_steps_stretch_the_schedules_of_all_models(runs: tuple[Path, str], data: Path) -> None:
    folder, _ = runs
    for name in MODELS:
        config, usual = read_translation(folder / name)[0], default_config("lstm" if name == "lstm" else "transformer")
        share = 4 / default_config("transformer").steps
        for setting in ("steps", "schedule_steps", "warmup"):
            assert getattr(config, setting) == math.ceil(getattr(usual, setting) * share)
        assert (config.data, config.bpe_size, config.block_size) == (str(data), 280, 24)
        assert config.n_embd == (usual.n_embd if name == "lstm" else 16)
        assert config.eval_tokens == 20, "all validate on the same pairs"


def test_finished_runs_are_used_and_others_refused(runs: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    folder, out = runs
    again = compare("--data", data, "--out", folder, *TINY, "--models", "torch", "lstm")
    assert again.returncode == 0, again.stderr
    assert f"torch: the finished run in {folder / 'torch'}\nlstm: the finished run in {folder / 'lstm'}\n" in again.stdout
    assert "parameters\n" not in again.stdout  # nothing is trained
    expected = {key: numbers for key, numbers in rows(out.replace("beam 4", "beam")).items() if key[0] != "transformer"}
    assert rows(again.stdout.replace("beam 4", "beam")) == expected
    other = compare("--data", data, "--out", folder, *TINY, "--lr", 0.5)
    assert other.returncode == 2
    assert f"error: the run in {folder / 'transformer'} was made with lr 0.002, not 0.5: choose another --out\n" == other.stderr
    shutil.copytree(folder, tmp_path / "runs")
    for name, advice in (("lstm", "continue it with: python scripts/translate.py train --resume"), ("torch", "delete")):
        (tmp_path / "runs" / name / "summary.json").unlink()
        stopped = compare("--data", data, "--out", tmp_path / "runs", *TINY, "--models", name)
        assert stopped.returncode == 2
        assert stopped.stderr.startswith(f"error: the run in {tmp_path / 'runs' / name} is not finished: {advice} ")


def test_a_run_that_had_saved_nothing_is_begun_again(runs: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    (tmp_path / "lstm").mkdir()
    shutil.copy(runs[0] / "lstm" / "config.json", tmp_path / "lstm")
    again = compare("--data", data, "--out", tmp_path, *TINY, "--models", "lstm")
    assert again.returncode == 0, again.stderr
    assert "it is begun again" in again.stderr
    assert (tmp_path / "lstm" / "model.safetensors").read_bytes() == (runs[0] / "lstm" / "model.safetensors").read_bytes()


def test_ctrl_c_stops_and_says_how_to_go_on(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, SCRIPTS / "translate.py", "compare", "--data", data, "--out", tmp_path, *TINY, "--steps", 10**6]
    folder = tmp_path / "transformer"
    metrics = folder / "metrics.jsonl"
    with subprocess.Popen([*map(str, command), "--models", "transformer"], stdout=subprocess.PIPE, text=True) as process:
        while not metrics.exists() or not metrics.read_text():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out = process.communicate()[0]
    assert process.returncode == 130
    advice = f"continue it with: python scripts/translate.py train --resume {folder}"
    assert out.splitlines()[-1] == f"stopped; before the next comparison, {advice}"
    assert list((folder / "checkpoints").glob("step-*.safetensors"))


def test_errors_are_one_line(tmp_path: Path) -> None:
    fails_with_one_line(compare("--models", "gru"), "invalid choice 'gru'")
    fails_with_one_line(compare("--models"), "--models names none: expected some of transformer, lstm, torch")
    fails_with_one_line(compare("--steps", 0), "--steps 0: expected at least 1")
    fails_with_one_line(compare("--data", "nowhere.tsv", "--out", tmp_path / "new"), "no such data: 'nowhere.tsv'")
    fails_with_one_line(compare("--model", "lstm"), "--model")
    assert not (tmp_path / "new").exists()


def test_pytorch_is_asked_for_only_when_it_is_needed(tmp_path: Path) -> None:
    """Runs in a Python without PyTorch."""
    (tmp_path / "torch.py").write_text("raise ImportError('not here')\n", encoding="utf-8")
    fails_with_one_line(
        script("translate.py", "compare", "--dry-run", PYTHONPATH=str(tmp_path)), "PyTorch is not installed: pip install 'tinylm[test]'"
    )
    result = script("translate.py", "compare", "--dry-run", "--models", "lstm", PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert "lstm" in result.stdout


def test_a_dry_run_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, temporary = tmp_path / "here", tmp_path / "temporary"
    here.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    result = script_here("translate.py", "compare", "--dry-run", cwd=here)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "".join(f"{name} ...\n" for name in MODELS)
    assert "testing on 3 sentences" in result.stdout
    assert list(here.iterdir()) == []
    assert not [path for path in temporary.iterdir() if not path.name.startswith("torchinductor")]  # sometimes PyTorch's own cache


def test_help() -> None:
    out = ends_well(compare("--help"))
    assert "--models" in out
    assert "--schedule-steps" not in out
    assert "translate.py compare" in ends_well(script_here("translate.py", "--help"))
