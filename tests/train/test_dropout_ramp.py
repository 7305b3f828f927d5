"""Dropout that grows with training."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tinylm import nn
from tinylm.errors import ConfigError
from tinylm.models import GPT, GPTConfig, RNNModel, TransformerModel
from tinylm.train import Run, TrainConfig
from tinylm.train.tasks.dropout_ramp import DropoutRamp

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 40
MODELS = {
    "gpt": lambda: GPT(GPTConfig(vocab_size=7, block_size=8, n_layer=2, n_head=2, n_embd=8, dropout=0.4)),
    "transformer": lambda: TransformerModel(7, 8, 2, 8, 2, 0.4),
    "lstm": lambda: RNNModel("lstm", 7, 8, 8, 2, 0.4, input_dropout=0.2),
}
PLACES = {"gpt": 7, "transformer": 9, "lstm": 3}  # gpt: embedding, 2 x (weights, both branches); transformer: positions, 2 x 4


def probabilities(model: nn.Module) -> list[float]:
    found = [m.p for m in model.modules() if isinstance(m, nn.Dropout)]
    return found + [m.dropout for m in model.modules() if isinstance(getattr(m, "dropout", None), float)]


@pytest.mark.parametrize("name", MODELS)
def test_every_probability_rises_to_its_value(name: str) -> None:
    model = MODELS[name]()
    full = np.array(probabilities(model))
    assert len(full) == PLACES[name]
    ramp = DropoutRamp(model, 10)
    for k, share in ((0, 0.0), (1, 0.1), (5, 0.5), (10, 1.0), (1000, 1.0), (2, 0.2)):
        ramp.set(k)
        np.testing.assert_allclose(probabilities(model), full * share, rtol=1e-15)


def test_without_a_ramp_nothing_changes() -> None:
    model = MODELS["lstm"]()
    full = probabilities(model)
    DropoutRamp(model, 0).set(0)
    assert probabilities(model) == full


def test_a_run_drops_as_the_ramp_says_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    config = TrainConfig(
        model="gru", steps=8, schedule_steps=8, block_size=8, n_layer=2, n_embd=8, n_hidden=8, dropout=0.5, dropout_ramp=6,
        batch_size=4, warmup=2, eval_every=4, save_every=4,
    )  # fmt: skip
    whole = Run(config, tmp_path / "whole", TEXT)
    seen = []
    step = whole.train_step

    def watched(k: int) -> object:
        result = step(k)
        seen.append(whole.model.drop.p)
        return result

    whole.train_step = watched  # type: ignore[method-assign, assignment]
    whole.train()
    assert seen == [0.5 * min(1, k / 6) for k in range(8)]

    Run(dataclasses.replace(config, steps=4), tmp_path / "half", TEXT).train()
    half = Run(config, tmp_path / "half", TEXT, resume=True)
    half.train()
    for name, array in whole.model.state_dict().items():
        np.testing.assert_array_equal(half.model.state_dict()[name], array, err_msg=name)
    plain = Run(dataclasses.replace(config, dropout_ramp=0), tmp_path / "plain", TEXT)
    plain.train()
    assert not np.array_equal(plain.model.state_dict()["decoder.weight"], whole.model.state_dict()["decoder.weight"])


def test_a_negative_ramp_is_refused() -> None:
    with pytest.raises(ConfigError, match="dropout_ramp is -1: expected at least 0"):
        TrainConfig(dropout_ramp=-1)
