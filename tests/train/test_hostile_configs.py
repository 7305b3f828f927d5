"""A run's config.json that describes a far larger model than its files of weights hold: refused before anything is built."""

import json
import re
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from long_runs import TEXT, tiny_run

from tinylm.errors import TinylmError
from tinylm.train import Run, TrainConfig, load_run
from tinylm.train.tasks.classification import load_classifier
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.translation import load_translator

OLD = Path(__file__).parents[1] / "old_runs"
HUGE = {
    "gpt": ["n_layer", "n_embd", "block_size", "members"], "llama": ["n_layer", "n_hidden"], "lstm": ["n_layer", "n_hidden", "members"],
    "transformer": ["n_layer", "n_hidden"], "translator": ["n_layer", "n_embd", "block_size"], "lstm-translator": ["n_layer", "n_embd"],
    "bag-classifier": ["members", "buckets", "width"], "lstm-classifier": ["members", "layers", "hidden"],
    "transformer-classifier": ["members", "layers", "hidden"],
}  # fmt: skip


@pytest.mark.parametrize("size", [1 << 24, 10**9, 10**40])
@pytest.mark.parametrize(("name", "setting"), [(name, setting) for name, settings in HUGE.items() for setting in settings])
def test_a_model_that_the_files_cannot_hold(name: str, setting: str, size: int, tmp_path: Path) -> None:
    shutil.copytree(OLD / name, folder := tmp_path / "run")
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    record["train"][setting] = size
    (folder / "config.json").write_text(json.dumps(record), encoding="utf-8")
    load: Callable[[Path], Any] = load_translator if "translator" in name else load_classifier if "classifier" in name else load_run
    tracemalloc.start()
    try:
        with pytest.raises(TinylmError, match=r"config.json is damaged: its model would have .*, the largest file of weights [0-9.]+ kB"):
            load(folder)
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


def test_a_resumed_run_and_an_init(tmp_path: Path) -> None:
    tiny_run("gpt", tmp_path / "run").train()
    record = json.loads((tmp_path / "run" / "config.json").read_text(encoding="utf-8"))
    record["train"]["n_layer"] = 10**9
    (tmp_path / "run" / "config.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(TinylmError, match="its model would have"):
        read_config(tmp_path / "run", TrainConfig)
    with pytest.raises(TinylmError, match="its model would have"):
        tiny_run("gpt", tmp_path / "next", init=str(tmp_path / "run"))
    assert not (tmp_path / "next").exists()


def test_what_a_run_holds_is_not_refused(tmp_path: Path) -> None:
    """Not even if its newest checkpoint is cut off."""
    run = tiny_run("gpt", tmp_path / "run")
    run.train()
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:100])
    config, tokenizer = read_config(tmp_path / "run", TrainConfig)
    Run(config, tmp_path / "run", TEXT, tokenizer, resume=True).lock.release()


@pytest.mark.parametrize("context", ["7", 2.0, 0.5, -3, True, [4]])
def test_a_context_that_is_no_number_of_tokens(context: Any, tmp_path: Path) -> None:
    shutil.copytree(OLD / "gpt", folder := tmp_path / "run")
    record = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**record, "context": context}), encoding="utf-8")
    with pytest.raises(TinylmError, match=re.escape(f"config.json is damaged: its context is {context!r}, expected at least 1")):
        load_run(folder)
