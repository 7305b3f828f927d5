"""Training continues from a trained model, whole or with adapters; it resumes bit for bit, and only what was trained is written."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import TEXT, assert_same_end, stop_at, tiny
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm.errors import CheckpointError, ConfigError
from tinylm.files.signed_arrays import read_arrays, write_arrays
from tinylm.models import GPT
from tinylm.nn import Linear
from tinylm.nn.lora import LowRankLinear
from tinylm.train import Run, TrainConfig, default_config, load_run, validation_loss
from tinylm.train.tasks.fine_tuning import fine_tuning_config
from tinylm.train.tasks.loading import read_config

OTHER = "pack my box with five dozen liquor jugs, he said to the lazy brown fox.\n" * 25
PARTS = {"whole": {}, "adapters": {"lora_rank": 2, "lora_alpha": 4.0}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Returns trained runs by model, with the characters of both texts."""
    folder = tmp_path_factory.mktemp("bases")
    for model in ("gpt", "llama", "gru"):
        Run(tiny(model, tokenizer="bpe", bpe_size=270), folder / model, TEXT).train()
    return {model: folder / model for model in ("gpt", "llama", "gru")}


def going_on(base: Path, **changes: Any) -> TrainConfig:
    return tiny(read_config(base, TrainConfig)[0].model, init=str(base), **changes)


def weights(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.array(a) for name, a in load_run(folder)[0].state_dict().items()}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("model", ["gpt", "llama"])
def test_it_begins_where_the_other_ended_and_learns_the_new_text(model: str, part: str, base: dict[str, Path], tmp_path: Path) -> None:
    run = Run(going_on(base[model], ema=0.0, **PARTS[part]), tmp_path / "run", OTHER)
    before = validation_loss(load_run(base[model])[0], run.task.val_ids)
    assert run.task.validation_loss() == pytest.approx(before, rel=1e-6)
    summary = run.train()
    assert summary is not None
    assert summary["val_loss"] < before - (0.02 if part == "adapters" else 0.1)
    found, tokenizer, config = load_run(tmp_path / "run")
    assert validation_loss(found, run.task.val_ids) == summary["val_loss"]
    assert config is not None
    assert config.init == str(base[model].resolve())
    assert tokenizer.encode(OTHER).tolist() == load_run(base[model])[1].encode(OTHER).tolist()


@pytest.mark.parametrize("model", ["gpt", "llama"])
def test_only_the_adapters_are_trained_and_written(model: str, base: dict[str, Path], tmp_path: Path) -> None:
    run = Run(going_on(base[model], **PARTS["adapters"]), tmp_path / "run", OTHER)
    adapted = {path for path, module in run.model.named_modules() if isinstance(module, LowRankLinear)}
    attention = "attn" if model == "gpt" else "self_attn"
    linear = {path for path, module in run.model.named_modules() if isinstance(module, Linear) and f".{attention}." in path}
    assert adapted == linear
    run.train()
    names = {f"{path}.{factor}" for path in adapted for factor in ("lora_A", "lora_B")}
    for path in (tmp_path / "run" / "model.safetensors", tmp_path / "run" / "checkpoints" / "best.safetensors"):
        assert set(read_arrays(path)[0]) == names
    old, new = weights(base[model]), weights(tmp_path / "run")
    assert old.keys() == new.keys() - names
    assert all((old[name] == new[name]).all() for name in old)
    assert all(np.abs(new[name]).max() > 0 for name in names)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("model", ["gpt", "llama", "gru"])
def test_a_resumed_run_is_the_uninterrupted_one(model: str, part: str, base: dict[str, Path], tmp_path: Path) -> None:
    if model == "gru" and part == "adapters":
        with pytest.raises(ConfigError, match="lora_rank is 2: only a GPT or Llama can have adapters, not a RNNModel"):
            Run(going_on(base[model], **PARTS[part]), tmp_path / "run", OTHER)
        return
    config = going_on(base[model], **PARTS[part])
    Run(config, tmp_path / "whole", OTHER).train()
    stop_at(run := Run(config, tmp_path / "parts", OTHER), 7)
    assert run.train() is None
    saved, tokenizer = read_config(tmp_path / "parts", TrainConfig)
    assert Run(saved, tmp_path / "parts", OTHER, tokenizer, resume=True).train() is not None
    assert_same_end(tmp_path / "parts", tmp_path / "whole")


def test_a_fine_tuned_model_can_be_fine_tuned_again(base: dict[str, Path], tmp_path: Path) -> None:
    first = going_on(base["gpt"], ema=0.0, **PARTS["adapters"])
    Run(first, tmp_path / "first", OTHER).train()
    second = dataclasses.replace(first, init=str(tmp_path / "first"))
    run = Run(second, tmp_path / "second", OTHER)
    assert run.task.validation_loss() == pytest.approx(validation_loss(load_run(tmp_path / "first")[0], run.task.val_ids), rel=1e-5)
    run.train()
    record = json.loads((tmp_path / "first" / "config.json").read_text(encoding="utf-8"))
    record["train"]["init"] = str(tmp_path / "second")  # a cycle
    (tmp_path / "first" / "config.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(CheckpointError, match="leads back to it"):
        load_run(tmp_path / "second")


def test_training_can_start_from_a_pretrained_folder(base: dict[str, Path], tmp_path: Path) -> None:
    model, tokenizer, _ = load_run(base["gpt"])
    assert isinstance(model, GPT)
    model.save_pretrained(tmp_path / "elsewhere")
    record = {"model": {"type": "BPE"}} if tokenizer is None else json.loads(tokenizer.to_json()["definition"])
    (tmp_path / "elsewhere" / "tokenizer.json").write_text(json.dumps(record), encoding="utf-8")
    (tmp_path / "text.txt").write_text(OTHER, encoding="utf-8")
    settings = ["--data", tmp_path / "text.txt", "--block-size", 8, "--steps", 4, "--batch-size", 2]
    shown = ends_well(script_here("train.py", "--init", tmp_path / "elsewhere", "--lora-rank", 2, *settings, "--out", tmp_path / "run"))
    assert "of them trained" in shown
    saved, _ = read_config(tmp_path / "run", TrainConfig)
    assert (saved.model, saved.n_layer, saved.n_embd, saved.lr, saved.lora_rank) == ("gpt", 2, 16, 1e-3, 2)
    ends_well(script_here("train.py", "--resume", tmp_path / "run", "--steps", 6))
    ends_well(script_here("generate.py", tmp_path / "run", "--prompt", "the", "--tokens", 5))


def test_what_does_not_go_together_is_said(base: dict[str, Path], tmp_path: Path) -> None:
    def refused(message: str, *flags: Any) -> None:
        fails_with_one_line(script_here("train.py", *flags, "--out", tmp_path / "never"), message)
        assert not (tmp_path / "never").exists()

    refused("no run folder", "--init", tmp_path / "nothing")
    refused("n_layer is 3: the model of init", "--init", base["gpt"], "--n-layer", 3, "--block-size", 8)
    refused("block_size is 9: the model of init", "--init", base["gpt"], "--block-size", 9)
    refused("--model lstm and --init", "--init", base["gpt"], "--model", "lstm")
    refused("--lora-rank 4 needs --init", "--lora-rank", 4)
    refused("--init and --preset do not go together", "--init", base["gpt"], "--preset", "best-10min")
    refused("rank is 99: expected 1 to 16", "--init", base["gpt"], "--block-size", 8, "--lora-rank", 99)


def test_defaults(base: dict[str, Path]) -> None:
    whole, adapters = (fine_tuning_config(str(base["llama"]), adapters=flag) for flag in (False, True))
    assert (whole.model, whole.lr, adapters.lr) == ("llama", 5e-5, 1e-3)
    assert whole.block_size == 8  # the model's block size, which is less than the usual 256
    assert fine_tuning_config(str(base["gru"]), adapters=False).block_size == 256


def test_adapters_refuse_a_base_that_has_changed(base: dict[str, Path], tmp_path: Path) -> None:
    """Adapters correct weights that are stored elsewhere; whole weights need nothing from there."""
    shutil.copytree(base["gpt"], tmp_path / "base")
    for part in PARTS:
        stop_at(run := Run(going_on(tmp_path / "base", block_size=4, **PARTS[part]), tmp_path / part, OTHER), 7)
        run.train()
    before = {part: weights(tmp_path / part) for part in PARTS}
    arrays, record = read_arrays(tmp_path / "base" / "model.safetensors")
    arrays["transformer.wte.weight"] = arrays["lm_head.weight"] = np.nextafter(arrays["transformer.wte.weight"], np.float32(1))
    write_arrays(tmp_path / "base" / "model.safetensors", arrays, record)
    with pytest.raises(CheckpointError, match=r"the model of init .*base has changed since the run in .*adapters"):
        load_run(tmp_path / "adapters")
    saved, tokenizer = read_config(tmp_path / "adapters", TrainConfig)
    with pytest.raises(CheckpointError, match="has changed since"):
        Run(saved, tmp_path / "adapters", OTHER, tokenizer, resume=True)
    shutil.rmtree(tmp_path / "base")
    after = weights(tmp_path / "whole")
    assert all((after[name] == before["whole"][name]).all() for name in before["whole"])
    saved, tokenizer = read_config(tmp_path / "whole", TrainConfig)
    assert Run(saved, tmp_path / "whole", OTHER, tokenizer, resume=True).train() is not None
    with pytest.raises(CheckpointError, match="no run folder"):
        load_run(tmp_path / "adapters")


@pytest.mark.parametrize("part", PARTS)
def test_activations_are_computed_again_if_asked(part: str, base: dict[str, Path], tmp_path: Path) -> None:
    for flag in (True, False):
        run = Run(going_on(base["llama"], checkpoint_activations=flag, **PARTS[part]), tmp_path / str(flag), OTHER)
        assert run.model.checkpoint_activations is flag  # type: ignore[attr-defined]


def test_flags_may_have_underscores(base: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(OTHER, encoding="utf-8")
    ends_well(
        script_here(
            "train.py", "--data", tmp_path / "text.txt", "--init", base["gpt"], "--lora_rank", 2, "--steps", 1, "--out", tmp_path / "run"
        )
    )
    assert read_config(tmp_path / "run", TrainConfig)[0].lr == 1e-3  # the adapters'


@pytest.mark.parametrize("model", ["gpt", "llama", "gru"])
def test_the_shape_comes_from_the_model_that_it_goes_on_from(model: str, base: dict[str, Path], tmp_path: Path) -> None:
    config = dataclasses.replace(default_config(model), init=str(base[model]), block_size=8, batch_size=2, steps=1)
    run, first = Run(config, tmp_path / "run", OTHER), read_config(base[model], TrainConfig)[0]
    for name in ("n_embd", "n_hidden") if model == "gru" else ("n_layer", "n_head", "n_embd"):
        assert getattr(run.config, name) == getattr(first, name) != getattr(config, name), name
    assert run.config.dropout == first.dropout


def test_a_model_trained_further_on_short_blocks_keeps_its_context(base: dict[str, Path], tmp_path: Path) -> None:
    """With and without a further tokenizer of its own."""
    for part in PARTS:
        stop_at(run := Run(going_on(base["gpt"], block_size=4, **PARTS[part]), tmp_path / part, OTHER), 1)
        run.train()
        assert read_config(tmp_path / part, TrainConfig)[0].block_size == 4
        assert fine_tuning_config(str(tmp_path / part), adapters=False).block_size == 8
