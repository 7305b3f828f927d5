"""The gradient norms of layers, and how runs record them."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tinylm import nn
from tinylm.train import Run, default_config
from tinylm.train.metrics import gradient_norms, layer_of


@pytest.mark.parametrize(
    ("path", "layer"),
    [
        ("transformer.h.0.attn.c_attn.weight", "transformer.h.0"),
        ("transformer.h.11.ln_1.bias", "transformer.h.11"),
        ("members.1.transformer.h.0.ln_1.weight", "members.1"),
        ("transformer.wte.weight", "transformer.wte"),
        ("0.weight", "0"),
        ("rnn.weight_ih_l1", "rnn.l1"),
        ("rnn.bias_hh_l0_reverse", "rnn.l0_reverse"),
        ("weight_hh_l0", "l0"),
        ("decoder.weight", "decoder"),
        ("weight", "weight"),
    ],
)
def test_the_layer_of_a_parameter(path: str, layer: str) -> None:
    assert layer_of(path) == layer


def test_the_norms() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1), nn.Linear(1, 1))
    model[0].weight.grad = np.array([[1.0, 2.0], [2.0, 4.0]])  # type: ignore[union-attr]
    model[0].bias.grad = np.array([0.0, 12.0])  # type: ignore[union-attr]
    model[1].weight.grad = np.array([[3.0, -4.0]])  # type: ignore[union-attr]
    assert gradient_norms(model) == {"0": 13.0, "1": 5.0}


@pytest.mark.parametrize(("model", "layers"), [
    ("gpt", ["transformer.wte", "transformer.wpe", "transformer.h.0", "transformer.h.1", "transformer.ln_f"]),
    ("lstm", ["encoder", "rnn.l0", "rnn.l1", "decoder"]),
])  # fmt: skip
def test_a_run_records_them(model: str, layers: list[str], tmp_path: Path) -> None:
    """The norms are those before clipping, as the norm of all gradients together."""
    text = "the quick brown fox jumps over the lazy dog.\n" * 20
    changes = {
        "n_layer": 2, "n_head": 2, "n_embd": 8, "n_hidden": 8, "block_size": 8, "batch_size": 2, "steps": 4, "schedule_steps": 4,
        "warmup": 1, "clip": 0.01, "log_every": 2,
    }  # fmt: skip
    run = Run(dataclasses.replace(default_config(model), **changes), tmp_path / "run", text)  # type: ignore[arg-type]
    run.train()
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    records = [record for record in records if "loss" in record]
    assert len(records) == 2
    for record in records:
        assert list(record["grad_norms"]) == layers
        assert all(norm > 0 for norm in record["grad_norms"].values())
        assert math.hypot(*record["grad_norms"].values()) == pytest.approx(record["grad_norm"], rel=1e-5)
        assert record["grad_norm"] > 0.01
