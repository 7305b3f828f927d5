"""scripts/export.py as a user runs it; transformers opens its folders."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm.engine.tensor import Tensor
from tinylm.models import GPT, Llama, LlamaConfig
from tinylm.nn.lora import adapt, adapter_arrays
from tinylm.pretrained.model_export import save_adapters, save_pretrained
from tinylm.train import Counting, Run, default_config, load_run
from tinylm.verify.reports import relative_error
from tinylm.verify.torch.hugging_face_twins import make_exact

TEXT = "the quick brown fox's <unk> jumps over\tthe lazy dog.\r\nsee the dog sleep, and  the fox run 3 times.\n" * 30
SHAPE = {"n_layer": 2, "n_embd": 16, "n_hidden": 24, "order": 2, "bpe_size": 280}
STEPS = {"block_size": 16, "batch_size": 4, "steps": 3, "schedule_steps": 3, "warmup": 1, "lr": 0.1}
RUNS = {
    "gpt": ("gpt", {}), "biased": ("gpt", {"bias": True, "tokenizer": "bpe"}), "llama": ("llama", {"tokenizer": "word"}),
    "gru": ("gru", {}), "transformer": ("transformer", {}), "ensemble": ("gpt", {"members": 2}), "ngram": ("ngram", {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("runs")
    for name, (model, changes) in RUNS.items():
        config = dataclasses.replace(default_config(model), **{**SHAPE, **STEPS, **changes})
        (Counting if model == "ngram" else Run)(config, parent / name, TEXT).train()
    for init in ("gpt", "biased", "llama"):
        config = dataclasses.replace(default_config(RUNS[init][0]), init=str(parent / init), lora_rank=3, lora_alpha=5.0, **STEPS)
        Run(config, parent / f"{init}-adapted", TEXT).train()
    ends_well(script_here("export.py", parent / "gpt", parent / "folder"))
    config = dataclasses.replace(default_config("gpt"), init=str(parent / "folder"), **STEPS)
    Run(config, parent / "from-folder", TEXT).train()
    return parent


IDS = np.random.default_rng(0).integers(0, 20, (3, 9))


def logits_of(theirs: Any) -> np.ndarray:
    with torch.no_grad():
        return theirs.eval()(torch.from_numpy(IDS)).logits.numpy()


@pytest.mark.parametrize("name", ["gpt", "biased", "llama", "from-folder"])
def test_a_run_opens_elsewhere(name: str, runs: Path, hugging_face: Any, tmp_path: Path) -> None:
    """The ids of texts and the logits in both precisions are equal; read back and written again, the folder is the same byte for byte."""
    folder = tmp_path / "folder"
    ends_well(script_here("export.py", runs / name, folder))
    model, tokenizer, _ = load_run(runs / name)
    theirs = hugging_face.AutoTokenizer.from_pretrained(folder)
    for text in (TEXT, " \n\n dog\r\n", "<unk>"):
        ids = tokenizer.encode(text).tolist()
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == tokenizer.decode(ids)
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-10)):
        found = hugging_face.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), attn_implementation="sdpa")
        if isinstance(model, Llama):
            make_exact(found, model.config)
        assert isinstance(model, GPT | Llama)
        assert relative_error(logits_of(found), model.to(dtype=dtype)(Tensor(IDS)).numpy(), 0.0) <= tolerance
    ends_well(script_here("export.py", folder, tmp_path / "again"))
    for file in ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes(), file


def corrected(hugging_face: Any, base: Path, folder: Path) -> Any:
    """Returns their model of a base with W + (alpha / r) B A for every layer that adapter_config.json targets."""
    theirs = hugging_face.AutoModelForCausalLM.from_pretrained(base)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["peft_type"] == "LORA"
    factors = load_file(folder / "adapter_model.safetensors")
    for path, module in theirs.named_modules():
        if any(path.endswith(f".{target}") for target in config["target_modules"]):
            a, b = (torch.from_numpy(factors.pop(f"base_model.model.{path}.lora_{x}.weight")) for x in "AB")
            assert a.shape[0] == b.shape[1] == config["r"]
            change = config["lora_alpha"] / config["r"] * (b @ a)
            module.weight.data += change.T if config["fan_in_fan_out"] else change
    assert not factors
    return theirs


@pytest.mark.parametrize("name", ["gpt", "biased", "llama"])
def test_adapters_alone_and_merged(name: str, runs: Path, hugging_face: Any, tmp_path: Path) -> None:
    run = runs / f"{name}-adapted"
    said = ends_well(script_here("export.py", run, tmp_path / "adapters"))
    assert f"export.py {runs / name} BASE\n" in said
    assert {path.name for path in (tmp_path / "adapters").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    ends_well(script_here("export.py", runs / name, tmp_path / "base"))
    ends_well(script_here("export.py", run, tmp_path / "merged", "--merge"))
    expected = load_run(run)[0](Tensor(IDS)).numpy()  # type: ignore[operator]
    base, merged = (logits_of(hugging_face.AutoModelForCausalLM.from_pretrained(tmp_path / x)) for x in ("base", "merged"))
    assert relative_error(base, expected, 0.0) > 0.01
    assert relative_error(merged, expected, 0.0) <= 1e-5
    assert relative_error(logits_of(corrected(hugging_face, tmp_path / "base", tmp_path / "adapters")), expected, 0.0) <= 1e-5


def test_adapters_of_interleaved_pairs(hugging_face: Any, tmp_path: Path) -> None:
    """The rows of lora_B are put in the order of the rows that they correct."""
    model = Llama(LlamaConfig(vocab_size=23, block_size=16, n_layer=1, n_embd=24, n_hidden=20, rope_pairing="interleaved"))
    save_pretrained(model, tmp_path / "base", None)
    adapt(model, 3, 5.0, lambda path: ".self_attn." in path)
    for array in adapter_arrays(model).values():
        array[...] = np.random.default_rng(0).standard_normal(array.shape) * 0.3
    save_adapters(model, tmp_path / "adapters", 3, 5.0, "base")
    theirs = corrected(hugging_face, tmp_path / "base", tmp_path / "adapters")
    assert relative_error(logits_of(theirs), model.eval()(Tensor(IDS)).numpy(), 0.0) <= 1e-5


@pytest.mark.parametrize(("name", "flags"), [("gpt", []), ("biased", []), ("from-folder", []), ("biased-adapted", ["--merge"])])
def test_one_gguf_file(name: str, flags: list[str], runs: Path, tmp_path: Path) -> None:
    """Read back here it computes the same, and takes the same ids for a text; generate.py, too, goes on from it."""
    run, file = runs / name, tmp_path / "x.gguf"
    result = script_here("export.py", run, file, *flags)  # on stderr there may be a notice, once in a process
    assert (result.returncode, result.stdout) == (0, f"written: {file}\n")
    model, tokenizer, _ = load_run(run)
    again, read, _ = load_run(file)
    assert isinstance(model, GPT | Llama)
    assert isinstance(again, GPT | Llama)
    assert relative_error(again(Tensor(IDS)).numpy(), model(Tensor(IDS)).numpy(), 0.0) <= 1e-5
    for text in (TEXT, " \n\n dog\r\n"):
        assert read.encode(text).tolist() == tokenizer.encode(text).tolist()
    settings = ["--prompt", "the dog", "--greedy", "--tokens", 5]
    assert ends_well(script_here("generate.py", file, *settings)) == ends_well(script_here("generate.py", run, *settings))


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("llama", [], "cannot hold this tokenizer: one of kind 'word'"), ("gpt-adapted", [], "--merge adds them"),
        ("gru", [], "a RNNModel"), ("gpt", ["--merge"], "no adapters"),
    ],
)  # fmt: skip
def test_what_no_gguf_file_can_hold(name: str, flags: list[str], message: str, runs: Path, tmp_path: Path) -> None:
    fails_with_one_line(script_here("export.py", runs / name, tmp_path / "x.gguf", *flags), message)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("gru", [], "a RNNModel"), ("transformer", [], "a TransformerModel"), ("ensemble", [], "a Ensemble"), ("ngram", [], "a NgramLM"),
        ("gpt", ["--merge"], "no adapters to merge"), ("none", [], "no run folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_exported(name: str, flags: list[str], message: str, runs: Path, tmp_path: Path) -> None:
    fails_with_one_line(script_here("export.py", runs / name, tmp_path / "new", *flags), message)
    assert not (tmp_path / "new").exists()


def test_nothing_is_overwritten(runs: Path, tmp_path: Path) -> None:
    fails_with_one_line(script_here("export.py", runs / "gpt", runs / "gpt"), "exists already")
    below = runs / "gpt" / "config.json" / "new"
    fails_with_one_line(script_here("export.py", runs / "gpt", below), f"cannot write {below}: ")
    for name in ("new", "new.gguf"):
        assert ends_well(script_here("export.py", runs / "gpt", tmp_path / name, "--dry-run")) == f"would write {tmp_path / name}\n"
        assert not (tmp_path / name).exists()
    (tmp_path / "old.gguf").mkdir()
    fails_with_one_line(script_here("export.py", runs / "gpt", tmp_path / "old.gguf"), "old.gguf exists already: expected a new file")


def test_evaluations_of_models_from_elsewhere(runs: Path, tmp_path: Path) -> None:
    """Models in folders evaluate as the run itself; adapters keep learning; a report, which needs a training run, is refused."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT, encoding="utf-8", newline="")
    lines = [ends_well(script_here("evaluate.py", runs / x, "--data", text)).splitlines()[2].split()[-2:] for x in ("gpt", "folder")]
    assert lines[0] == lines[1]
    plain, learning = (
        float(ends_well(script_here("evaluate.py", runs / "gpt-adapted", "--data", text, *flags)).splitlines()[2].split()[-2])
        for flags in ([], ["--dynamic", 0.1])
    )
    assert learning != plain
    for flags in ([], ["--dry-run"]):
        fails_with_one_line(script_here("explain.py", "report", runs / "folder", *flags), "no training to report")
    fails_with_one_line(script_here("long_range.py", "context", runs / "folder"), "expected a run folder")
