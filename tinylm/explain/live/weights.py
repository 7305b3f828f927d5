"""A model as the live page's JavaScript needs it (models.js): its kind, its sizes, and its weights as text."""

import base64
import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinylm.data.tokenizers import CharTokenizer, Tokenizer, WordTokenizer
from tinylm.decode.stepping import evaluating
from tinylm.engine.autograd import no_grad
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError
from tinylm.models import GPT, Ensemble, Llama, RNNModel, classifier
from tinylm.models.classifier import LSTMClassifier, TextClassifier, TransformerClassifier
from tinylm.nn import LSTM, RNN, LowRankLinear, Module, Parameter
from tinylm.nn.lora import merge

LARGEST = 3_000_000  # parameters: 8 MB of page, half a second for 64 tokens


def live_problem(model: Module, tokenizer: Tokenizer) -> str:
    """Returns why the page cannot compute this model itself, as the end of a sentence; "" if it can."""
    try:
        described(model)
    except ConfigError as error:
        return str(error)
    if model.num_parameters() > LARGEST:
        return f"the model has {model.num_parameters():,} parameters, more than {LARGEST:,}"
    kinds = (WordTokenizer,) if isinstance(model, TextClassifier) else (CharTokenizer, WordTokenizer)
    if type(tokenizer) not in kinds:
        return f"its tokens are {tokenizer.kind!r:.40}, neither characters nor words"
    return ""


def packed(model: Module, exact: bool = False) -> dict[str, Any]:
    """Returns {kind, config, parameters, dtype, weights}.

    config: the sizes and settings of the formulas. parameters[name], under the names of the state dict: {shape, offset}, in
    numbers from the start of `weights`, which are base64 of little-endian float16, or float32 if `exact`; tied weights have one
    offset. Adapters are merged. Raises ConfigError for a model that models.js does not compute; RangeError for a weight that is
    not finite or that float16 cannot hold.
    """
    model = _merged(model)
    kind, config = described(model)
    dtype = np.dtype(np.float32 if exact else np.float16).newbyteorder("<")
    parameters: dict[str, Any] = {}
    offsets: dict[int, int] = {}
    parts: list[bytes] = []
    end = 0
    for name, tensor in model.named_state():
        if not isinstance(tensor, Parameter):
            continue  # the table of sinusoids, which JavaScript computes
        if id(tensor) not in offsets:
            offsets[id(tensor)] = end
            parts.append(_rounded_array(name, tensor, dtype).tobytes())
            end += tensor.size
        parameters[name] = {"shape": list(tensor.shape), "offset": offsets[id(tensor)]}
    weights = base64.b64encode(b"".join(parts)).decode("ascii")
    return {"kind": kind, "config": config, "parameters": parameters, "dtype": dtype.name, "weights": weights}


def rounded(model: Module, exact: bool = False) -> Any:
    """Returns a copy of the model with the very weights that the page has, as float32. Raises what `packed` raises."""
    model = _merged(copy.deepcopy(model))
    dtype = np.dtype(np.float32 if exact else np.float16)
    arrays = {name: _rounded_array(name, tensor, dtype).astype(np.float32) for name, tensor in model.named_parameters()}
    model.to(dtype=np.float32)
    for name, parameter in model.named_parameters():
        parameter.data[...] = to_device(arrays[name], parameter.device)
    return model


def rounding_shift(model: Module, ids: Sequence[int], exact: bool = False) -> float:
    """Returns how far rounding the weights moves a logit of a text at most: max |logits - logits of the rounded|."""
    return float(np.max(np.abs(logits_of(model, ids) - logits_of(rounded(model, exact), ids))))


def logits_of(model: Any, ids: Sequence[int] | np.ndarray) -> np.ndarray:
    """Returns the logits of one text, float64: (T, V) of a language model, a single one without axes of a classifier."""
    device = next(iter(model.parameters())).device
    batch = Tensor(to_device(np.array([ids], np.int64), device))
    with no_grad(), evaluating(model.modules()):
        logits = model(batch, np.array([len(ids)])) if isinstance(model, TextClassifier) else model.logits(batch)
    return to_numpy(logits.data)[0].astype(np.float64)


def _merged(model: Module) -> Module:
    """Returns the model, or a copy of it without adapters if it has some."""
    if any(isinstance(module, LowRankLinear) for module in model.modules()):
        model = copy.deepcopy(model)
        merge(model)
    return model


def _rounded_array(name: str, tensor: Tensor, dtype: np.dtype) -> np.ndarray:
    array = to_numpy(tensor.data)
    if not np.isfinite(array).all():
        raise RangeError(f"the weights {name} hold a NaN or an infinity")
    with np.errstate(over="ignore"):
        found = array.astype(dtype)
    if not np.isfinite(found).all():
        worst = float(array.flat[np.argmax(np.abs(array))])
        instead = " (65504): write the page with exact=True" if dtype.itemsize == 2 else ""
        raise RangeError(f"a weight of {name} is {worst:.7g}, more than {dtype.name} can hold{instead}")
    return found


# ---------------------------------------------------------------- what a model is


def described(model: Any) -> tuple[str, dict[str, Any]]:
    """Returns (kind, config) of a model. Raises ConfigError for one that models.js does not compute."""
    if isinstance(model, TextClassifier) and model.classes > 2:
        raise ConfigError(f"it tells {model.classes} classes apart, and the page's decision is between two")
    if type(model) is GPT:
        return "gpt", _without(dataclasses.asdict(model.config), "dropout", "bias", "tied")
    if type(model) is Llama:
        shape = model.config
        if shape.rope_scaling is not None and shape.rope_scaling.by_length:
            raise ConfigError("its rotary frequencies depend on the length of the text, which the page does not compute")
        settings = _without(dataclasses.asdict(shape), "dropout", "attention_bias", "mlp_bias", "tied", "rope_theta", "rope_scaling")
        made = {"head_dim": shape.head_width, "frequencies": list(shape.frequencies), "rope_attention": shape.rope_attention}
        return "llama", {**settings, **made}
    if type(model) is RNNModel:
        kind = "rnn" if isinstance(model.rnn, RNN) else "lstm" if isinstance(model.rnn, LSTM) else "gru"
        return kind, {"block_size": None, **_recurrent(model)}
    if type(model) is LSTMClassifier:
        return "lstm-classifier", _recurrent(model)
    if type(model) is TransformerClassifier:
        return "transformer-classifier", _encoder(model)
    if type(model) in (Ensemble, classifier.Ensemble):
        pairs = [described(member) for member in model.members]
        shared = {name: pairs[0][1].get(name) for name in ("vocab_size", "block_size")}
        mean = "probabilities" if type(model) is Ensemble else "logits"
        prior = model.prior.numpy().tolist() if getattr(model, "calibrated", False) else None
        members = [{"kind": kind, "config": config} for kind, config in pairs]
        return "ensemble", {**shared, "members": members, "mean": mean, "prior": prior}
    raise ConfigError(f"the page computes GPTs, Llamas, recurrent models and two kinds of classifiers, not a {type(model).__name__}")


def _without(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in names}


def _recurrent(model: Any) -> dict[str, Any]:
    layers = model.rnn
    vocab_size, width = model.encoder.weight.shape
    return {
        "vocab_size": vocab_size, "n_layer": layers.num_layers, "n_embd": width, "n_hidden": layers.hidden_size,
        "bidirectional": layers.bidirectional, **layers.settings,
    }  # fmt: skip


def _encoder(model: TransformerClassifier) -> dict[str, Any]:
    layers = list(model.transformer_encoder.layers)
    vocab_size, width = model.encoder.weight.shape
    return {
        "vocab_size": vocab_size, "block_size": model.pos_encoder.pe.shape[0], "n_layer": len(layers), "n_embd": width,
        "n_head": layers[0].self_attn.num_heads, "n_hidden": layers[0].linear1.out_features, "norm_eps": layers[0].norm1.eps,
    }  # fmt: skip
