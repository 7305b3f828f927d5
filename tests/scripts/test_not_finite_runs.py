"""Every command that uses a trained model refuses one with a NaN or an infinity among its weights, and names the first such weight."""

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from script_helpers import ends_well, fails_with_one_line, script_here

from tinylm.data.labelled import LabelledTexts
from tinylm.data.pairs import Pairs
from tinylm.errors import AnomalyError
from tinylm.files.signed_arrays import read_arrays, write_arrays
from tinylm.nn.lora import adapter_arrays
from tinylm.pretrained.model_export import save_adapters, save_pretrained
from tinylm.train import Run, default_config, load_run
from tinylm.train.tasks import classifier_config, translation_config
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.translation import TranslationRun

TEXT = "the quick brown fox jumps over the lazy dog.\nsee the dog sleep, and the fox run away again.\n" * 30
STEPS: dict[str, Any] = {"n_layer": 1, "n_embd": 16, "block_size": 16, "batch_size": 4, "steps": 2, "schedule_steps": 2, "warmup": 1}
PAIRS = [("le chat dort", "the cat sleeps"), ("le chien court", "the dog runs"), ("un oiseau chante", "a bird sings")] * 4


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("runs")
    (parent / "foxes.txt").write_text(TEXT, encoding="utf-8")
    for name, model in {"gpt": "gpt", "llama": "llama", "gru": "gru", "averaged": "gru"}.items():
        config = dataclasses.replace(default_config(model), data=str(parent / "foxes.txt"), n_hidden=24, **STEPS)
        config = dataclasses.replace(config, ema=0.5 if name == "averaged" else config.ema)
        Run(config, parent / name, TEXT).train()
    adapted = dataclasses.replace(default_config("gpt"), data=str(parent / "foxes.txt"), init=str(parent / "gpt"), lora_rank=2, **STEPS)
    Run(adapted, parent / "adapted", TEXT).train()
    translator = dataclasses.replace(
        translation_config.default_config("lstm"), bpe_size=260, block_size=24, n_layer=1, n_embd=16, n_hidden=16, batch_tokens=64,
        steps=2, schedule_steps=2, warmup=1,
    )  # fmt: skip
    TranslationRun(translator, parent / "translator", Pairs(PAIRS, PAIRS[:2], PAIRS[2:], 0, "")).train()
    texts = [f"{word} {n}" for n in range(10) for word in ("good", "bad")]
    labelled = LabelledTexts(texts, np.array([1, 0] * 10), ("bad", "good"), 0, "")
    for name in ("bag", "lstm"):
        small = dataclasses.replace(classifier_config.default_config(name), width=8, hidden=8, epochs=1, members=2, min_count=1)
        ClassifierRun(small, labelled, parent / name).train()
    return parent


def damaged(folder: Path, to: Path, value: float, weight: str | None = None) -> tuple[Path, str]:
    """Copies a run, puts the value among the numbers of one of its weights, and returns the copy and what is said of it."""
    shutil.copytree(folder, to)
    arrays, record = read_arrays(to / "model.safetensors")
    name = weight or next(name for name, a in arrays.items() if a.ndim == 2)
    place = tuple(n // 2 for n in arrays[name].shape)
    arrays[name][place] = value
    write_arrays(to / "model.safetensors", arrays, record)
    return to, f"its parameter '{name}' holds {'a NaN' if math.isnan(value) else 'an infinity'} at {list(place)}"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["gpt", "llama", "gru", "averaged", "adapted"])
def test_language_models(name: str, value: float, runs: Path, tmp_path: Path) -> None:
    folder, said = damaged(runs / name, tmp_path / "damaged", value)
    commands: dict[str, tuple[object, ...]] = {
        "generate.py": (folder, "--prompt", "the", "--tokens", 3), "score.py": (folder, "the dog"), "evaluate.py": (folder,),
        "export.py": (folder, tmp_path / "exported"), "explain.py": ("backward", folder, "the"),
        "long_range.py": ("context", folder, "--contexts", 2, "--positions", 4, "--out", tmp_path / "curves"),
    }  # fmt: skip
    for command, arguments in commands.items():
        fails_with_one_line(script_here(command, *arguments), said)
    fails_with_one_line(script_here("evaluate.py", folder, "--dynamic", 0.1), said)
    fails_with_one_line(script_here("export.py", folder, tmp_path / "exported", "--dry-run"), said)
    fails_with_one_line(script_here("evaluate.py", runs / name, folder), said)  # the second of a mixture
    assert not (tmp_path / "exported").exists()
    assert not (tmp_path / "curves").exists()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_translators_and_classifiers(value: float, runs: Path, tmp_path: Path) -> None:
    folder, said = damaged(runs / "translator", tmp_path / "translator", value)
    for beams in (1, 4):
        fails_with_one_line(script_here("translate.py", "run", folder, "le chat", "--beams", beams), said)
    for name in ("bag", "lstm"):
        folder, said = damaged(runs / name, tmp_path / name, value)
        fails_with_one_line(script_here("classify.py", "run", folder, "good text"), said)
        fails_with_one_line(script_here("explain.py", "backward", folder, "good text"), said)


def test_the_runs_are_sound_before(runs: Path) -> None:
    for name in ("gpt", "llama", "gru", "averaged", "adapted"):
        ends_well(script_here("score.py", runs / name, "the dog"))
    ends_well(script_here("translate.py", "run", runs / "translator", "le chat"))
    for name in ("bag", "lstm"):
        ends_well(script_here("classify.py", "run", runs / name, "good text"))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_nothing_is_exported_from_memory(value: float, runs: Path, tmp_path: Path) -> None:
    saves: list[tuple[str, Callable[[Any], None]]] = [
        ("gpt", lambda model: save_pretrained(model, tmp_path / "whole", None)),
        ("llama", lambda model: model.save_pretrained(tmp_path / "whole")),
        ("adapted", lambda model: save_adapters(model, tmp_path / "adapters", 2, 1.0, "base")),
    ]
    for name, save in saves:
        model = load_run(runs / name)[0]
        arrays = adapter_arrays(model) or {n: p.data for n, p in model.named_parameters()}
        list(arrays.values())[-1].flat[-1] = value
        with pytest.raises(AnomalyError, match=f"the model cannot be exported: its parameter '{list(arrays)[-1]}' holds"):
            save(model)
    assert not any(tmp_path.iterdir())
