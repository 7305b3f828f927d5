"""Every registered layer and model equals its PyTorch twin, on the CPU and on a GPU or its emulation."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch

from tinylm import models, nn
from tinylm.models import GPTConfig, classifier, translator
from tinylm.models.llama import LlamaConfig
from tinylm.verify import compare, twins_of
from tinylm.verify.models import MODELS
from tinylm.verify.torch.models import TorchGPT, TorchLlama, TorchRNNModel, TorchTransformerModel

_LLAMA = LlamaConfig(vocab_size=17, block_size=8, n_layer=1, n_head=2, n_embd=12, n_hidden=20, dropout=0.5)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_the_twins_are_equal(name: str, dtype: str) -> None:
    ours, theirs, batch = twins_of(name)
    report = compare(ours, theirs, batch, dtype=dtype)
    assert report.ok, report
    assert {row.name for row in report.rows} >= {f"gradient of {path}" for path, _ in ours.named_parameters()}


@pytest.mark.parametrize("pairing", ["half", "interleaved"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_twin_of_a_llama_has_its_settings(pairing: Any, tied: bool) -> None:
    config = LlamaConfig(
        vocab_size=17, block_size=8, n_layer=2, n_head=4, n_kv_head=2, n_embd=12, head_dim=6, n_hidden=20, attention_bias=not tied,
        mlp_bias=tied, tied=tied, rope_pairing=pairing, norm_eps=0.01,
    )  # fmt: skip
    report = compare(models.Llama(config), TorchLlama(config), [np.random.default_rng(0).integers(0, 17, (3, 7))])
    assert report.ok, report


@pytest.mark.parametrize("bias", [False, True])
def test_the_twin_of_a_gpt_has_its_settings(bias: bool) -> None:
    config = GPTConfig(vocab_size=17, block_size=8, n_layer=2, n_head=3, n_embd=12, bias=bias, norm_eps=0.01)
    report = compare(models.GPT(config), TorchGPT(config), [np.random.default_rng(0).integers(0, 17, (3, 8))])
    assert report.ok, report


@pytest.mark.parametrize(("kind", "nonlinearity"), [("rnn", "tanh"), ("rnn", "relu"), ("gru", "tanh"), ("lstm", "tanh")])
def test_the_twins_of_recurrent_models_are_of_their_kind(kind: str, nonlinearity: str) -> None:
    sizes = kind, 17, 8, 12, 2, 0.0
    ours, theirs = models.RNNModel(*sizes, nonlinearity=nonlinearity), TorchRNNModel(*sizes, nonlinearity=nonlinearity)
    report = compare(ours, theirs, [np.random.default_rng(0).integers(0, 17, (7, 3))])
    assert report.ok, report
    dropped = TorchRNNModel(kind, 17, 8, 12, 2, 0.3)
    assert (dropped.drop.p, dropped.input_drop.p, dropped.rnn.dropout) == (0.3, 0.3, 0.3)
    assert TorchRNNModel(kind, 17, 8, 12, 2, 0.3, input_dropout=0.1).input_drop.p == 0.1


def test_dropout_of_the_twins_is_off_in_evaluation() -> None:
    """And on in training, with the rate of the configuration."""
    gpt, llama = GPTConfig(vocab_size=17, block_size=8, n_layer=1, n_head=3, n_embd=12, dropout=0.5), _LLAMA
    ids = torch.tensor(np.random.default_rng(0).integers(0, 17, (3, 8)))
    for model in (TorchGPT(gpt), TorchLlama(llama), TorchTransformerModel(17, 12, 2, 24, 1, 0.5)):
        model.train()
        assert not torch.equal(model(ids), model(ids))
        model.eval()
        assert torch.equal(model(ids), model(ids))
        for module in model.modules():  # attention has a dropout of its own
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.train()
        assert not torch.equal(model(ids), model(ids))


def test_every_neural_model_is_registered() -> None:
    """Only the ensemble of language models is left out, since it has no forward: tests/models/test_ensemble.py compares it."""
    kinds = {kind for module in (models, classifier, translator) for _, kind in inspect.getmembers(module, inspect.isclass)}
    neural = {k for k in kinds if issubclass(k, nn.Module) and k.forward is not nn.Module.forward and not k.__subclasses__()}
    registered = {type(builder(lambda kind: kind)[0]) for builder in MODELS.values()}
    assert {k.__qualname__ for k in neural - registered} == set()


@pytest.mark.parametrize("name", ["gpt", "lstm_classifier", "recurrent_translator"])
def test_on_a_gpu(cuda: Any, name: str) -> None:
    ours, theirs, batch = twins_of(name)
    report = compare(ours.to("cuda"), theirs, batch, dtype="float32")
    assert report.ok, report
