"""How much memory a training step is said to need, before it is begun."""

from typing import Any

import pytest
from small_runs import small

from tinylm.engine import machine_memory
from tinylm.errors import ConfigError
from tinylm.train.tasks import classifier_config, language_model_config, translation_config
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.translation_config import TranslationConfig

ROWS, BLOCK, LAYERS, WIDTH, HIDDEN = 4, 8, 2, 16, 24  # of small_runs


def asked_of(module: Any, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> list[tuple[int, str]]:
    """Returns what check_training_fits asks for: (bytes, for what)."""
    asked: list[tuple[int, str]] = []
    monkeypatch.setattr(module, "check_fits", lambda needed, what: asked.append((needed, what)))
    module.check_training_fits(*arguments)
    return asked


@pytest.mark.parametrize(
    ("model", "settings", "ranks", "kept", "states"),
    [
        ("gpt", {}, 1, ROWS * BLOCK * WIDTH * LAYERS, 2),
        ("llama", {}, 1, ROWS * BLOCK * WIDTH * LAYERS, 2),
        ("gru", {}, 1, ROWS * BLOCK * HIDDEN * LAYERS, 2),
        ("gpt", {"ema": 0.9}, 1, ROWS * BLOCK * WIDTH * LAYERS, 3),
        ("gpt", {"accumulate": 2}, 1, 2 * BLOCK * WIDTH * LAYERS, 2),
        ("gpt", {"accumulate": 3}, 1, 2 * BLOCK * WIDTH * LAYERS, 2),  # one part has two rows
        ("gpt", {}, 2, 2 * BLOCK * WIDTH * LAYERS, 2),
        ("gpt", {"accumulate": 2}, 2, BLOCK * WIDTH * LAYERS, 2),
        ("lstm", {"members": 3}, 1, 3 * ROWS * BLOCK * HIDDEN * LAYERS, 2),
        ("gpt", {"init": "elsewhere"}, 1, ROWS * BLOCK * WIDTH * LAYERS, None),  # its weights are there already
    ],
)
def test_a_language_models_step(
    model: str, settings: dict[str, Any], ranks: int, kept: int, states: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """float32 weights and gradients, the two moments, an average if there is one, and an array per layer."""
    config = small(model, **settings)
    size = language_model_config.footprint(config, 10)
    weights = size.trained(states) if states else 0
    ((needed, what),) = asked_of(language_model_config, monkeypatch, config, 10, ranks)
    assert needed == weights + 4 * kept
    assert what.startswith(
        f"training a {model} of n_layer 2, n_embd 16, n_hidden 24, members {config.members} with batch_size 4 and block_"
    )


def test_on_a_gpu_nothing_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked_of(language_model_config, monkeypatch, small("gpt", device="cuda"), 10) == []
    assert asked_of(translation_config, monkeypatch, TranslationConfig(device="cuda"), 10) == []


def test_memory_is_asked_for_one_process_if_none_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [asked_of(language_model_config, monkeypatch, small("gpt"), 10, *ranks)[0][0] for ranks in ((), (1,), (2,))]
    assert asked[0] == asked[1] > asked[2]
    monkeypatch.undo()
    monkeypatch.setattr(machine_memory, "machine_memory", lambda: (asked[0] - 1, 0))
    with pytest.raises(ConfigError, match="this machine has"):
        language_model_config.check_training_fits(small("gpt"), 10)


@pytest.mark.parametrize(
    ("settings", "states"), [({}, 1), ({"optimizer": "adamw"}, 2), ({"ema": 0.9}, 2), ({"optimizer": "adamw", "ema": 0.9}, 3)]
)
def test_a_translators_step(settings: dict[str, Any], states: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon has one moment per weight, AdamW two."""
    config = TranslationConfig(**settings)
    ((needed, _),) = asked_of(translation_config, monkeypatch, config, 300)
    assert needed == translation_config.footprint(config, 300).trained(states)


@pytest.mark.parametrize("model", ["linear", "bag", "lstm", "transformer"])
def test_a_classifiers_step(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All members' weights; gradients and two moments of the one whose turn it is."""
    one, three = (ClassifierConfig(model=model, members=members) for members in (1, 3))  # type: ignore[arg-type]
    size = classifier_config.footprint(one, 300)
    ((needed, _),) = asked_of(classifier_config, monkeypatch, three, 300)
    assert needed == classifier_config.footprint(three, 300).loaded() + 3 * 4 * size.parameters
