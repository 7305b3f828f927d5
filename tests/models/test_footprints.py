"""Each formula counts what the built model has; what no memory can hold is refused before it is built."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import TEXT, tiny, tiny_run

from tinylm.data.labelled import LabelledTexts
from tinylm.engine import machine_memory
from tinylm.engine.machine_memory import check_fits, size_text
from tinylm.errors import ConfigError
from tinylm.nn import Module
from tinylm.train import Run
from tinylm.train.tasks import classifier_config, language_model_config, translation_config
from tinylm.train.tasks.classification import prepare_split, start_classifier

SHAPES = [{}, {"n_layer": 1, "n_head": 1}, {"n_embd": 32, "n_hidden": 40, "n_layer": 3, "bias": True}, {"members": 2}]


def counts(model: Module) -> tuple[int, int]:
    buffers = {id(b): b.size for _, b in model.named_buffers()}
    return model.num_parameters(), sum(buffers.values())


@pytest.mark.parametrize("model", ["gpt", "llama", "transformer", "rnn", "lstm", "gru"])
@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_language_models(model: str, changes: dict[str, Any]) -> None:
    config = dataclasses.replace(tiny(model, **changes), n_kv_head=1)
    size = language_model_config.footprint(config, 27)
    built = language_model_config.build_model(config, 27)
    assert (size.parameters, size.buffers) == counts(built)
    assert size.layers == config.n_layer * config.members
    assert size.trained(2) - size.loaded() == 12 * size.parameters


@pytest.mark.parametrize("model", ["linear", "bag", "lstm", "transformer"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("changes", [{}, {"layers": 2, "width": 12, "hidden": 20, "members": 1, "buckets": 7, "folds": 0}], ids=str)
def test_classifiers(model: str, classes: int, changes: dict[str, Any]) -> None:
    config = dataclasses.replace(classifier_config.default_config(model), **changes)
    size = classifier_config.footprint(config, 50, classes)
    assert (size.parameters, size.buffers) == counts(classifier_config.build_classifier(config, 50, classes))


@pytest.mark.parametrize("model", ["transformer", "lstm"])
@pytest.mark.parametrize("changes", [{}, {"n_layer": 3, "n_embd": 20, "n_hidden": 12, "block_size": 9}], ids=str)
def test_translators(model: str, changes: dict[str, Any]) -> None:
    config = dataclasses.replace(translation_config.default_config(model), **changes)
    size = translation_config.footprint(config, 70)
    parameters, buffers = counts(translation_config.build_translator(config, 70))
    assert size.parameters == parameters
    assert size.buffers == buffers if model == "transformer" else size.buffers == buffers == 0


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("model", ["gpt", "llama", "transformer", "rnn", "lstm", "gru"])
@pytest.mark.parametrize(
    "changes",
    [{"n_layer": 10**9}, {"n_embd": 1 << 20, "n_hidden": 1 << 20}, {"members": 10**9}, {"n_layer": 10**400}, {"batch_size": 10**11}],
    ids=["layers", "width", "members", "layers of 400 digits", "batch"],
)
def test_a_language_model_that_no_memory_holds(model: str, changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=f"{model} of n_layer .* needs .* of memory, this machine has [0-9.]+ [GT]B \\([0-9.]+ [GT]B avail"
    ):
        Run(tiny(model, **changes), tmp_path / "run", TEXT)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("changes", [{"n_layer": 10**9}, {"n_embd": 1 << 20}, {"block_size": 10**15}, {"n_hidden": 10**12}], ids=str)
@pytest.mark.parametrize("model", ["translator", "recurrent translator"])
def test_a_translator_that_no_memory_holds(model: str, changes: dict[str, Any], tmp_path: Path) -> None:
    if model == "recurrent translator" and not changes.keys() & {"n_layer", "n_embd"}:
        return  # it has no use for them
    with pytest.raises(ConfigError, match=r"a translator of n_layer .* needs .* of memory"):
        tiny_run(model, tmp_path / "run", **changes)


@pytest.mark.parametrize(
    ("model", "changes"),
    [
        *((model, changes) for model in ("bag", "lstm", "transformer") for changes in ({"members": 10**8}, {"width": 1 << 30})),
        ("linear", {"members": 10**8}), ("linear", {"buckets": 10**12}),
        ("bag", {"buckets": 10**12}), ("lstm", {"hidden": 1 << 24}), ("lstm", {"layers": 10**9}), ("transformer", {"layers": 10**9}),
        ("transformer", {"hidden": 1 << 40}),
    ],
)  # fmt: skip
def test_a_classifier_that_no_memory_holds(model: str, changes: dict[str, Any]) -> None:
    texts = LabelledTexts([f"good {i}" if i % 2 else f"bad {i}" for i in range(40)], np.arange(40) % 2, ("no", "yes"), 0, "")
    config = dataclasses.replace(classifier_config.default_config(model), **changes)
    with pytest.raises(ConfigError, match=r"a classifier of width .* needs .* of memory"):
        start_classifier(config, prepare_split(texts, 0))


def test_what_fits_is_not_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The estimate is below what a run takes: a run that needs all of it is not refused."""
    config = tiny("gpt")
    needed = language_model_config.footprint(config, len(set(TEXT))).trained(3) + 4 * 4 * 8 * 16 * 2
    monkeypatch.setattr(machine_memory, "machine_memory", lambda: (needed, needed))
    Run(config, tmp_path / "run", TEXT)
    monkeypatch.setattr(machine_memory, "machine_memory", lambda: (needed - 1, 0))
    with pytest.raises(ConfigError, match=f"needs {size_text(needed)} of memory, this machine has .* \\(0.00 kB available"):
        Run(config, tmp_path / "other", TEXT)
    monkeypatch.setattr(machine_memory, "machine_memory", lambda: None)  # a system that does not say
    check_fits(10**30, "it")


# ---------------------------------------------------------------- the machine


MEMINFO = "MemTotal: 4000 kB\nMemAvailable: 3000 kB\nSwapTotal: 1000 kB\nSwapFree: 500 kB\n"


def files(folder: Path, **content: str) -> Path:
    for name, text in {"proc/meminfo": MEMINFO, **content}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="ascii")
    return folder


def test_swap_counts_and_a_cgroup_limits(tmp_path: Path) -> None:
    assert machine_memory.machine_memory(files(tmp_path / "a")) == (5000 << 10, 3500 << 10)
    group = "sys/fs/cgroup/one"
    limited = {"proc/self/cgroup": "0::/one/two\n", f"{group}/memory.max": "2097152\n", f"{group}/two/memory.max": "max\n"}
    with_swap = (2048 + 1000) << 10
    assert machine_memory.machine_memory(files(tmp_path / "b", **limited)) == (with_swap, with_swap)
    less = files(tmp_path / "less", **limited, **{f"{group}/memory.swap.max": "4096\n"})
    assert machine_memory.machine_memory(less) == ((2 << 20) + 4096, (2 << 20) + 4096)
    first = {"proc/self/cgroup": "5:cpu,memory:/one\n", "sys/fs/cgroup/memory/one/memory.limit_in_bytes": "4096\n"}
    assert machine_memory.machine_memory(files(tmp_path / "c", **first)) == (4096 + (1000 << 10), 4096 + (1000 << 10))


def test_a_limit_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_memory.resource, "getrlimit", lambda kind: (12345, -1))
    found = machine_memory.machine_memory()
    assert found is not None
    assert found[0] == 12345


def test_a_system_without_proc(tmp_path: Path) -> None:
    found = machine_memory.machine_memory(tmp_path)
    assert found is None or found[0] > 1 << 20


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.00 kB"), (1500, "1.50 kB"), (999_499, "999 kB"), (999_500, "1.00 MB"), (25_276_502_016, "25.3 GB"), (412 * 10**9, "412 GB"),
        (10**21, "1000 EB"), (10**30, "more than 10^29 bytes"), (10**400, "more than 10^399 bytes"),
    ],
)  # fmt: skip
def test_sizes_in_words(count: int, text: str) -> None:
    assert size_text(count) == text
