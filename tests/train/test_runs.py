"""Training runs: learning, resuming bit for bit, what a run folder contains, and what can go wrong."""

import dataclasses
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, CheckpointError, ConfigError, DataError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import read_json, write_json
from tinylm.files.signed_arrays import read_arrays, write_arrays
from tinylm.train import Run, TrainConfig, load_run, validation_loss
from tinylm.train.tasks.loading import read_config

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40
SMALL = TrainConfig(
    steps=20, schedule_steps=20, block_size=16, n_layer=2, n_head=2, n_embd=16, dropout=0.1, batch_size=4, warmup=2,
    lr=1e-2, log_every=5, eval_every=10, save_every=5,
)  # fmt: skip


def weights(run: Run) -> dict[str, np.ndarray]:
    return run.model.state_dict()


def test_a_run_learns_and_leaves_its_folder(tmp_path: Path) -> None:
    run = Run(SMALL, tmp_path / "run", TEXT)
    records = []
    summary = run.train(records.append)
    assert summary is not None
    assert summary["val_loss"] < records[0]["loss"]
    assert summary["val_nats_per_byte"] == pytest.approx(summary["val_loss"])  # one byte a character here
    names = {p.relative_to(run.folder).as_posix() for p in run.folder.rglob("*") if p.is_file()}
    assert names == {
        "config.json", "data.json", "lock", "metrics.jsonl", "summary.json", "model.safetensors", "checkpoints/best.safetensors",
        *(f"checkpoints/step-{step:08d}.safetensors" for step in (10, 15, 20)),
    }  # fmt: skip
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == records
    assert [r["step"] for r in lines] == [5, 10, 10, 15, 20, 20]
    assert json.loads((run.folder / "summary.json").read_text(encoding="utf-8")) == summary
    model, tokenizer, config = load_run(run.folder)
    assert config == SMALL
    assert not model.training
    assert validation_loss(model, run.task.val_ids, "cpu") == summary["val_loss"]
    assert tokenizer.decode(tokenizer.encode("the fox")) == "the fox"
    stored, _ = read_arrays(run.folder / "model.safetensors")
    assert "lm_head.weight" in stored  # stored once, listed under both names
    np.testing.assert_array_equal(stored["lm_head.weight"], stored["transformer.wte.weight"])


def test_a_stopped_and_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    whole = Run(SMALL, tmp_path / "whole", TEXT)
    whole.train()
    half = Run(dataclasses.replace(SMALL, steps=10), tmp_path / "half", TEXT)
    half.train()
    config, tokenizer = read_config(half.folder, TrainConfig)
    rest = Run(dataclasses.replace(config, steps=20), half.folder, TEXT, tokenizer, resume=True)
    assert rest.progress.step == 10
    rest.train()
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(weights(rest)[name], value, err_msg=name)
    for (name, a), b in zip(whole.task.optimizer.state_dict().items(), rest.task.optimizer.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    losses = [
        [r.get("loss", r.get("val_loss")) for r in map(json.loads, (f / "metrics.jsonl").read_text(encoding="utf-8").splitlines())]
        for f in (whole.folder, half.folder)
    ]
    assert losses[0] == losses[1]


def test_a_request_to_stop_saves_and_drops_no_step(tmp_path: Path) -> None:
    run = Run(SMALL, tmp_path / "run", TEXT)

    def report(record: dict) -> None:
        run.stop_requested = record["step"] >= 10

    assert run.train(report) is None
    config, tokenizer = read_config(run.folder, TrainConfig)
    rest = Run(config, run.folder, TEXT, tokenizer, resume=True)
    rest.train()
    whole = Run(SMALL, tmp_path / "whole", TEXT)
    whole.train()
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(weights(rest)[name], value, err_msg=name)


def test_a_resume_drops_records_of_steps_that_were_lost(tmp_path: Path) -> None:
    Run(dataclasses.replace(SMALL, steps=10), tmp_path / "run", TEXT).train()
    metrics = tmp_path / "run" / "metrics.jsonl"
    with metrics.open("a", encoding="utf-8") as file:
        file.write('{"step": 15, "loss": 1.0}\n{"step": 2')  # a crash between two checkpoints
    config, tokenizer = read_config(tmp_path / "run", TrainConfig)
    Run(dataclasses.replace(config, steps=20), tmp_path / "run", TEXT, tokenizer, resume=True).train()
    steps = [json.loads(line)["step"] for line in metrics.read_text(encoding="utf-8").splitlines()]
    assert steps == [5, 10, 10, 15, 20, 20]


def test_validation_counts_every_target_once(tmp_path: Path) -> None:
    """Compared with a plain loop over the positions of each block."""
    run = Run(SMALL, tmp_path / "run", TEXT)
    run.model.eval()
    ids, total = run.task.val_ids[:41], 0.0
    for start in range(0, 40, 16):
        block = ids[start : start + 17]
        logits = run.model.advance(Tensor(block[None, :-1]))[0].data[0].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        total -= log_p[np.arange(len(block) - 1), block[1:]].sum()
    assert validation_loss(run.model, ids, "cpu") == pytest.approx(total / 40, rel=1e-5)


def test_a_diverging_run_stops_with_the_reason(tmp_path: Path) -> None:
    run = Run(dataclasses.replace(SMALL, lr=1e30, warmup=0), tmp_path / "run", TEXT)
    with pytest.raises(AnomalyError, match=r"step [23]: the loss is .* nothing was updated"), np.errstate(all="ignore"):
        run.train()
    assert not (run.folder / "model.safetensors").exists()


def test_bad_settings_and_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size is 0"):
        TrainConfig(batch_size=0)
    with pytest.raises(ConfigError, match="lr is nan"):
        TrainConfig(lr=float("nan"))
    with pytest.raises(DataError, match="too short"):
        Run(SMALL, tmp_path / "short", "abc")
    assert not (tmp_path / "short").exists()
    Run(dataclasses.replace(SMALL, steps=0), tmp_path / "run", TEXT).train()
    with pytest.raises(CheckpointError, match="holds a run already"):
        Run(SMALL, tmp_path / "run", TEXT)


def test_damaged_and_foreign_runs(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no run folder"):
        load_run(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match=r"cannot read .*config\.json"):
        load_run(tmp_path)
    run = Run(dataclasses.replace(SMALL, steps=5), tmp_path / "run", TEXT)
    run.train()
    model = run.folder / "model.safetensors"
    good, config = model.read_bytes(), (run.folder / "config.json").read_bytes()
    for content in (good[: len(good) // 2], b"", b"hello", good[:4]):
        model.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
            load_run(run.folder)
    from safetensors.numpy import save

    model.write_bytes(save({"w": np.ones(3, np.float32)}))
    with pytest.raises(CheckpointError, match="is not a checkpoint of this version"):
        load_run(run.folder)
    other = Run(dataclasses.replace(SMALL, n_embd=32, steps=0), tmp_path / "other", TEXT)
    other.train()
    model.write_bytes((other.folder / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"does not fit GPT: .*misshapen 'transformer.wte.weight': \(29, 32\), expected \(29, 16\)"):
        load_run(run.folder)
    model.write_bytes(good)
    for content, message in [
        (config[:50], "is damaged"),
        (b"[]", "is not the config"),
        (config.replace(b'"n_layer"', b'"n_lair"'), r"missing \['n_layer'\], unexpected \['n_lair'\]"),
    ]:
        (run.folder / "config.json").write_bytes(content)
        with pytest.raises(CheckpointError, match=message):
            load_run(run.folder)


def test_arrays_of_any_layout_are_saved_right(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    base = rng.standard_normal((4, 6))
    arrays = {
        "transposed": base.T, "sliced": base[1:, ::2], "broadcast": np.broadcast_to(base[0], (3, 6)),
        "scalar": np.array(3.0), "ids": np.arange(3),
    }  # fmt: skip
    write_arrays(tmp_path / "a.safetensors", arrays, {"step": 3})
    back, record = read_arrays(tmp_path / "a.safetensors")
    assert record == {"step": 3}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array, err_msg=name)
        assert back[name].shape == array.shape


def test_any_path_can_be_stored_as_json(tmp_path: Path) -> None:
    """Also a path that is not UTF-8; what is text stays readable."""
    record = {"data": os.fsdecode(b"caf\xe9.txt"), "characters": "é😀"}
    write_json(tmp_path / "a.json", record)
    assert read_json(tmp_path / "a.json") == record
    assert "é😀" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """RLIMIT_FSIZE replaces the full disk: a write beyond it fails."""
    path = tmp_path / "model.safetensors"
    write_atomically(path, b"old")
    program = (
        "import sys; from pathlib import Path; from tinylm.files.atomic import write_atomically\n"
        "from tinylm.errors import CheckpointError\n"
        "try: write_atomically(Path(sys.argv[1]), b'x' * 100_000)\n"
        "except CheckpointError as error: print(error); sys.exit(7)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )  # fmt: skip
    assert result.returncode == 7, result.stderr
    assert "cannot write" in result.stdout
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.safetensors"]
