"""Small models of every kind with inputs, for the tests of their activations."""

import numpy as np

import tinylm
from tinylm import Tensor, explain
from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig, RNNModel, TransformerModel, Translator
from tinylm.models.classifier import BagClassifier, Ensemble, LSTMClassifier, TransformerClassifier
from tinylm.models.translator import RecurrentTranslator

DRAW = np.random.default_rng(0)
IDS = Tensor(DRAW.integers(0, 11, (2, 6)))
TIME_FIRST = Tensor(IDS.numpy().T.copy())
LENGTHS = np.array([6, 3])
GPT_SIZES = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 8}

MODELS = {
    "gpt": lambda: (GPT(GPTConfig(**GPT_SIZES, bias=True)), (IDS,)),
    "gpt with tanh": lambda: (GPT(GPTConfig(**GPT_SIZES, activation="gelu_tanh")), (IDS,)),
    "llama": lambda: (Llama(LlamaConfig(11, 8, 2, n_head=4, n_kv_head=2, n_embd=16, n_hidden=12, attention_bias=True)), (IDS,)),
    "transformer": lambda: (TransformerModel(11, 8, 2, 12, 2, dropout=0.0), (TIME_FIRST,)),
    "rnn": lambda: (RNNModel("rnn", 11, 5, 7, 2, nonlinearity="sigmoid"), (TIME_FIRST,)),
    "lstm": lambda: (RNNModel("lstm", 11, 7, 7, 2, tie_weights=True), (TIME_FIRST,)),
    "gru": lambda: (RNNModel("gru", 11, 5, 7, 1), (TIME_FIRST,)),
    "translator": lambda: (Translator(11, 8, 2, 12, 2), (IDS, LENGTHS, IDS[:, :4])),
    "recurrent translator": lambda: (RecurrentTranslator(11, 8, 2), (IDS, LENGTHS, IDS[:, :4])),
    "bag": lambda: (BagClassifier(11, 4, 5), (IDS, LENGTHS)),
    "lstm classifier": lambda: (LSTMClassifier(11, 4, 5, 2), (IDS, LENGTHS)),
    "transformer classifier": lambda: (TransformerClassifier(11, 8, 2, 12, 2), (IDS, LENGTHS)),
    "ensemble": lambda: (Ensemble([LSTMClassifier(11, 4, 5), TransformerClassifier(11, 8, 2, 12)]), (IDS, LENGTHS)),
}  # fmt: skip


def made(name, dtype=np.float64, seed=1):
    tinylm.manual_seed(seed)
    model, inputs = MODELS[name]()
    return model.to(dtype=dtype).eval(), inputs


def logits(model, inputs):
    y = model(*inputs)
    return y[0] if isinstance(y, tuple) else y


def seen_in(name, dtype=np.float64):
    model, inputs = made(name, dtype)
    with explain.cache(model) as seen:
        y = logits(model, inputs)
    return model, y, {key: value.numpy() for key, value in seen.items()}
