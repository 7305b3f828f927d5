"""scripts/train_torch.py as a user runs it, and the report that shows both curves."""

import dataclasses
import json
from pathlib import Path

import pytest
from script_helpers import ends_well, fails_with_one_line, script, script_here

from tinylm.train import Run, default_config
from tinylm.train.metrics import read_metrics

TEXT = "the quick brown fox jumps over the lazy dog.\nwhat does not fit, is it the dog?\n" * 20


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    config = dataclasses.replace(
        default_config("gpt"), data=str(folder / "text.txt"), n_layer=1, n_head=2, n_embd=16, block_size=12, batch_size=4,
        steps=10, schedule_steps=10, warmup=2, log_every=2, eval_every=5,
    )  # fmt: skip
    Run(config, folder / "gpt", TEXT).train()
    return folder / "gpt"


def test_the_curves_of_both(run: Path) -> None:
    out = ends_well(script("train_torch.py", run))
    assert "step 10/10" in out
    folder = run.with_name("gpt-torch")
    assert out.splitlines()[-1] == f"run folder {folder}"
    ours, theirs = ([r["loss"] for r in read_metrics(f / "metrics.jsonl") if "loss" in r] for f in (run, folder))
    assert len(ours) == 6  # every other step, and the one that validates
    assert theirs == pytest.approx(ours, rel=1e-5)
    page = run / "report.html"
    ends_well(script_here("explain.py", "report", run))
    alone = page.read_bytes()
    ends_well(script_here("explain.py", "report", run, "--torch", folder))
    assert page.read_bytes() != alone
    fails_with_one_line(script_here("train_torch.py", run), f"{folder} holds a run already")
    other = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    other["train"]["lr"] = 0.5
    (folder / "config.json").write_text(json.dumps(other), encoding="utf-8")
    message = "gpt-torch was trained with lr 0.5, and the run with 0.001"
    fails_with_one_line(script_here("explain.py", "report", run, "--torch", folder), message)


def test_a_dry_run_writes_nothing(run: Path) -> None:
    before = sorted(run.parent.rglob("*"))
    assert "step 3/3" in ends_well(script_here("train_torch.py", run, "--dry-run"))
    assert sorted(run.parent.rglob("*")) == before


def test_help_and_invalid_arguments(tmp_path: Path) -> None:
    shown = ends_well(script_here("train_torch.py", "--help"))
    for flag in ("--out", "--steps", "--dry-run"):
        assert flag in shown
    fails_with_one_line(script_here("train_torch.py", tmp_path / "none"), "no run folder")
