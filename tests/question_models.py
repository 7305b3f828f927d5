"""Small models of every kind for the questions, and the argument that each reads; and models whose answers are known."""

import numpy as np

import tinylm
from tinylm import Tensor
from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig, RNNModel, TransformerModel, Translator
from tinylm.models import Ensemble as LanguageEnsemble
from tinylm.models.classifier import Ensemble, LSTMClassifier, TransformerClassifier
from tinylm.models.translator import RecurrentTranslator

VOCABULARY = 11
DRAW = np.random.default_rng(3)
IDS, OTHER, SOURCE = (DRAW.integers(0, VOCABULARY, 6) for _ in range(3))
SIZES = {"vocab_size": VOCABULARY, "block_size": 8, "n_layer": 3, "n_head": 2, "n_embd": 8}

MODELS = {
    "gpt": lambda: GPT(GPTConfig(**SIZES, bias=True)),
    "llama": lambda: Llama(LlamaConfig(**{**SIZES, "n_head": 4, "n_embd": 16}, n_kv_head=2, n_hidden=12, attention_bias=True)),
    "transformer": lambda: TransformerModel(VOCABULARY, 8, 2, 12, 2),
    "rnn": lambda: RNNModel("rnn", VOCABULARY, 5, 7, 2),
    "lstm": lambda: RNNModel("lstm", VOCABULARY, 7, 7, 2, tie_weights=True),
    "gru": lambda: RNNModel("gru", VOCABULARY, 5, 7, 1),
    "ensemble": lambda: LanguageEnsemble([GPT(GPTConfig(**SIZES)) for _ in range(2)]),
    "translator": lambda: Translator(VOCABULARY, 8, 2, 12, 2),
    "recurrent translator": lambda: RecurrentTranslator(VOCABULARY, 8, 2),
    "lstm classifier": lambda: Ensemble([LSTMClassifier(VOCABULARY, 4, 5, 2) for _ in range(2)]),
    "transformer classifier": lambda: TransformerClassifier(VOCABULARY, 8, 2, 12, 2),
}


def made(name, seed=1):
    """Returns (model in float64 and training mode, so that dropout would be noticed; what the questions take after it)."""
    tinylm.manual_seed(seed)
    model = MODELS[name]().to(dtype=np.float64)
    asked = {"ids": IDS}
    if "translator" in name:
        asked["source"] = SOURCE
    if "classifier" in name:
        asked["label"] = 1
    return model, asked


def copying_llama(strength=3.0, vocab_size=5, layers=1):
    """Returns an untied Llama whose every answer is known: head 0 of layer 0 adds `strength` times the mean one-hot vector of the
    tokens so far to a second half of the stream, which alone is read out; all other parts add nothing. Positions do not matter."""
    v = vocab_size
    config = LlamaConfig(
        vocab_size=v,
        block_size=8,
        n_layer=layers,
        n_head=2,
        n_kv_head=2,
        n_embd=2 * v,
        head_dim=2 * v,
        n_hidden=4,
        tied=False,
        norm_eps=1e-30,
    )
    model = Llama(config).to(dtype=np.float64).eval()
    one_hot = np.eye(v, 2 * v)
    state = {name: np.zeros(x.shape) if "norm" not in name else np.ones(x.shape) for name, x in model.state_dict().items()}
    state["model.embed_tokens.weight"] = one_hot
    state["lm_head.weight"] = np.roll(one_hot, v, axis=1)
    value, out = np.zeros((4 * v, 2 * v)), np.zeros((2 * v, 4 * v))
    value[: 2 * v] = np.eye(2 * v) / np.sqrt(2 * v)  # undoes the norm of a one-hot vector
    out[v:, :v] = strength * np.eye(v)
    state["model.layers.0.self_attn.v_proj.weight"], state["model.layers.0.self_attn.o_proj.weight"] = value, out
    model.load_state_dict(state)
    return model


def copied_logits(ids, strength=3.0, vocab_size=5):
    """Returns the logits of that model at the last position, by hand."""
    mean = np.eye(vocab_size)[ids].mean(0)
    stream = np.concatenate([np.eye(vocab_size)[ids[-1]], strength * mean])
    return strength * mean / np.sqrt((stream**2).mean())


def ids_of(*ids):
    return Tensor(np.array([ids]))
