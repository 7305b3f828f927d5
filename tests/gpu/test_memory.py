"""Memory on the GPU: a step frees all that it allocated, without the garbage collector's help."""

import dataclasses
import gc
from pathlib import Path
from typing import Any

import pytest
from cuda_on_cpu.fixtures import forget_angles

from tinylm.data import load_text
from tinylm.engine import ids as engine_ids
from tinylm.train import Run, default_config

pytestmark = pytest.mark.cuda


def used_bytes(card: Any) -> int:
    card.cuda.runtime.deviceSynchronize()
    return card.get_default_memory_pool().used_bytes()


@pytest.mark.parametrize("model", ["gpt", "llama", "transformer", "rnn", "lstm", "gru"])
def test_a_step_gives_its_memory_back(card: Any, tmp_path: Path, model: str, scale: int) -> None:
    width = {"n_layer": 2, "n_embd": 384 // scale, "n_hidden": 1024 // scale, "n_head": 2, "n_kv_head": 1}
    batch = {"block_size": 128 // scale, "batch_size": 16, "dropout": 0.1}
    config = dataclasses.replace(default_config(model), **{**width, **batch, "device": "cuda"})
    gc.collect()
    before = used_bytes(card)
    run = Run(config, tmp_path / "run", load_text("tinyshakespeare")[:60_000])
    run.train_step(0)  # makes gradients and the carried state, which stay
    gc.disable()
    try:
        after = []
        for k in range(1, 6):
            run.train_step(k)
            after.append(used_bytes(card))
    finally:
        gc.enable()
    assert after == [after[0]] * 5
    parameters = sum(p.data.nbytes for p in run.model.parameters())
    buffers = sum(b.data.nbytes for _, b in run.model.named_buffers())
    assert after[0] - before < 1.1 * (4 * parameters + buffers) + 2**22  # values, gradients, AdamW's two; a batch, a state, a loss
    del run
    gc.collect()
    engine_ids._checks.clear()
    forget_angles()
    assert used_bytes(card) <= before
