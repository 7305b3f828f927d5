"""scripts/growth.py: the shapes it measures, the slopes, tables and files."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from script_helpers import SCRIPTS, ends_well, fails_with_one_line, script_here

sys.path.insert(0, str(SCRIPTS))

import growth
from benchmark import rounds as benchmark_rounds
from benchmark.process import Measurement, measure_here
from benchmark.workloads import WORKLOADS, Workload

sys.path.remove(str(SCRIPTS))

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_shapes() -> None:
    for size, values in growth.SIZES.items():
        works = [growth.gpt_of(size, value) for value in values]
        assert [getattr(work, size) for work in works] == list(values)
        assert all(work.width == 32 * work.heads for work in works)
        assert growth.GPT in works, "the curves meet in the small GPT"
    for model in growth.MODELS:
        for length in growth.LENGTHS:
            work = growth.sequence_of(model, length)
            assert (work.block_size, work.tokens) == (length, growth.TOKENS)
            assert work.model == WORKLOADS[growth.MODELS[model]].model


def test_the_slope() -> None:
    assert growth.Curve([1, 2, 4, 8], [3 * n**1.5 for n in (1, 2, 4, 8)]).slope == pytest.approx(1.5)


def fake(side: str, work: Workload, device: str) -> Measurement:
    """Returns times that grow as batch, block² and √width for tinylm, as batch for PyTorch, and as the length for recurrent models."""
    if work.model == "rnn":
        return Measurement(work.block_size * 1e-4, 1, 1)
    other = 1 if side == "torch" else work.block_size**2 * work.width**0.5
    return Measurement(work.batch_size * other * 1e-6, 1, 1)


def test_tables_and_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Any] = []

    def counted(side: str, work: Workload, device: str) -> Measurement:
        asked.append((side, work))
        return fake(side, work, device)

    monkeypatch.setattr(benchmark_rounds, "measure", counted)
    monkeypatch.setattr(sys, "argv", ["growth.py", "--against", "torch", "--pairs", "2", "--out", str(tmp_path)])
    growth.main()
    shapes = sum(map(len, growth.SIZES.values())) - 3 + 2 * len(growth.LENGTHS)  # the small GPT once, not four times
    assert len(asked) == 2 * 2 * shapes
    assert [side for side, _ in asked[:4]] == ["tinylm", "torch", "tinylm", "torch"]
    record = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))["curves"]
    slopes = {size: {side: round(curve["slope"], 6) for side, curve in curves.items()} for size, curves in record.items()}
    assert slopes == {
        "batch_size": {"tinylm": 1, "torch": 1},
        "block_size": {"tinylm": 2, "torch": 0},
        "width": {"tinylm": 0.5, "torch": 0},
        "layers": {"tinylm": 0, "torch": 0},
    }
    assert record["batch_size"]["torch"] == {
        "sizes": [3, 6, 12, 24, 48],
        "seconds": [n * 1e-6 for n in (3, 6, 12, 24, 48)],
        "slope": pytest.approx(1),
    }
    record = json.loads((tmp_path / "sequence.json").read_text(encoding="utf-8"))["curves"]
    assert record["RNN"]["tinylm"]["slope"] == pytest.approx(1)
    assert record["Transformer"]["torch"]["slope"] == pytest.approx(-1)
    for name in ("growth", "sequence"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert next(cells[:3] for cells in rows if cells[-1] == "2.00") == ["block", "size", "tinylm"]


def test_a_dry_run_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The shapes are measured in this process: test_readmes.py starts one per shape, as the command does."""
    monkeypatch.setattr(benchmark_rounds, "measure", measure_here)
    result = script_here("growth.py", "--dry-run", "--out", tmp_path / "never", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [cells[0] for cells in rows[1:5]] == ["batch", "block", "width", "layers"]
    assert [cells[0] for cells in rows[-2:]] == ["RNN", "Transformer"]
    assert list(tmp_path.iterdir()) == []


def test_help_and_bad_settings() -> None:
    shown = ends_well(script_here("growth.py", "--help"))
    for flag in ("--plot", "--against", "--pairs", "--device", "--out", "--dry-run"):
        assert flag in shown
    fails_with_one_line(script_here("growth.py", "--pairs", 0), "pairs is 0: expected at least 1")
    fails_with_one_line(script_here("growth.py", "--device", "tpu"), "unknown device 'tpu'")
