"""A training step of every model on the GPU or its emulation equals the step on the CPU, and nothing in it waits."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from device_helpers import waits_for_nothing
from helpers import assert_close

import tinylm
from tinylm import Tensor, ops
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.kernels import launches
from tinylm.models import GPT, TransformerModel
from tinylm.models.classifier import BagClassifier, LSTMClassifier, TransformerClassifier
from tinylm.models.gpt import GPTConfig
from tinylm.models.llama import Llama, LlamaConfig
from tinylm.models.rnn_lm import RNNModel
from tinylm.models.translator import RecurrentTranslator, Translator
from tinylm.optim import AdamW

VOCAB, LENGTHS = 19, np.array([7, 4, 6])
IDS, TARGETS = np.random.default_rng(0).integers(VOCAB, size=(2, 3, 7))
LABELS = np.array([1, 0, 1], np.float32)
GPT_CONFIG = GPTConfig(vocab_size=VOCAB, block_size=8, n_layer=2, n_head=2, n_embd=12, bias=True, dropout=0.1)
LLAMA_CONFIG = LlamaConfig(VOCAB, block_size=8, n_layer=2, n_head=4, n_kv_head=2, n_embd=16, n_hidden=20, dropout=0.1)
LLAMA_KERNELS = {"scaled_dot_product_attention", "rotary_heads", "swiglu_linear", "rms_norm"}

Loss = Callable[[Any, Callable[[np.ndarray], Tensor]], Tensor]


def next_token(model: Any, put: Callable[[np.ndarray], Tensor]) -> Tensor:
    logits, _ = model.advance(put(IDS))
    return ops.cross_entropy(logits, put(TARGETS))


def translation(model: Any, put: Callable[[np.ndarray], Tensor]) -> Tensor:
    return ops.cross_entropy(model(put(IDS), LENGTHS, put(TARGETS)), put(IDS), label_smoothing=0.1)


def classes(model: Any, put: Callable[[np.ndarray], Tensor]) -> Tensor:
    return ops.binary_cross_entropy_with_logits(model(put(IDS), LENGTHS), put(LABELS))


MODELS: dict[str, tuple[Callable[[], Any], Loss, set[str]]] = {  # model, loss, the model's kernels that must run
    "gpt": (lambda: GPT(GPT_CONFIG), next_token, {"scaled_dot_product_attention", "layer_norm", "linear", "dropout"}),
    "llama": (lambda: Llama(LLAMA_CONFIG), next_token, LLAMA_KERNELS | {"dropout"}),
    "llama without dropout": (  # the projections add the residual themselves; pairs lie side by side
        lambda: Llama(replace(LLAMA_CONFIG, rope_pairing="interleaved", dropout=0.0)),
        next_token,
        LLAMA_KERNELS | {"linear"},
    ),
    "transformer": (lambda: TransformerModel(VOCAB, 12, 2, 24, 2, 0.1), next_token, {"layer_norm", "linear", "dropout"}),
    "rnn": (lambda: RNNModel("rnn", VOCAB, 12, 16, 2, 0.1), next_token, {"rnn"}),
    "lstm": (lambda: RNNModel("lstm", VOCAB, 12, 12, 2, 0.1, tie_weights=True), next_token, {"lstm"}),
    "gru": (lambda: RNNModel("gru", VOCAB, 12, 16, 2, 0.1), next_token, {"gru"}),
    "translator": (lambda: Translator(VOCAB, 12, 2, 24, 2, 0.1), translation, {"layer_norm", "linear"}),
    "recurrent translator": (lambda: RecurrentTranslator(VOCAB, 12, 2, 0.1), translation, {"lstm"}),
    "bag classifier": (lambda: BagClassifier(VOCAB, 8, 17, 0.1, 0.1), classes, set()),
    "lstm classifier": (lambda: LSTMClassifier(VOCAB, 8, 6, 2, 0.1), classes, {"lstm"}),
    "transformer classifier": (lambda: TransformerClassifier(VOCAB, 8, 2, 12, 2, 0.1), classes, {"layer_norm"}),
}


def step(build: Callable[[], Any], loss_of: Loss, device: str) -> dict[str, np.ndarray]:
    """Makes two steps, with dropout; returns the losses, and the last gradients, weights and averages of the optimiser."""
    tinylm.manual_seed(0)
    model = build()
    model.to(device)
    model.train()
    optimizer = AdamW(model.parameters(), lr=0.01, eps=0.01)  # an eps compared with which rounding is small
    losses = []
    for _ in range(2):
        with waits_for_nothing() if device != "cpu" else np.errstate():
            loss = loss_of(model, lambda x: Tensor(to_device(x, device)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step(max_norm=0.5)
        losses.append(loss.numpy())
    gradients = {f"gradient of {name}": to_numpy(p.grad) for name, p in model.named_parameters()}
    return {"loss 0": losses[0], "loss 1": losses[1], **gradients, **{name: p.numpy() for name, p in model.named_parameters()}}


@pytest.mark.parametrize("name", MODELS)
def test_a_step_equals_the_cpus(name: str, cuda: Any) -> None:
    build, loss_of, kernels = MODELS[name]
    expected = step(build, loss_of, "cpu")
    launches.clear()
    found = step(build, loss_of, "cuda")
    assert {op for op, device in launches if device == "cuda"} >= kernels | {"adamw", "squared_norm"}
    for part in ("loss", "gradient", ""):
        names = [k for k in expected if k.startswith(part) and (part or not k.startswith(("loss", "gradient")))]
        assert_close({k: (found[k], expected[k]) for k in names}, 1e-5)
