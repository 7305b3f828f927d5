"""The way from a residual stream to the logits: the final norm and the output layer."""

from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models import GPT, Llama, RNNModel, TransformerModel
from tinylm.models.classifier import LSTMClassifier, TransformerClassifier
from tinylm.models.translator import RecurrentTranslator, Translator
from tinylm.nn import Module


def readout(model: Module, stream: Tensor) -> Tensor:
    """Returns the logits that the end of a model makes of its residual stream, as if the layers after it were not there.

    stream (N, T, C) -> (N, T, V) through the final norm and the output layer; of a classifier (N, T, C) -> (N,), through its pooling
    over all T positions too. A TransformerModel, whose layers end with a norm, and recurrent models have no final norm; a translator's
    stream is its decoder's. Raises ConfigError for a model that has no such end.
    """
    match model:
        case GPT():
            return model.lm_head(model.transformer.ln_f(stream))
        case Llama():
            return model.lm_head(model.model.norm(stream))
        case TransformerModel() | RNNModel():
            return model.decoder(stream)
        case Translator():
            return model.logits(model.decoder.norm(stream))
        case RecurrentTranslator():
            return model.logits(stream)
        case TransformerClassifier():
            return ops.squeeze(model.decoder(model.transformer_encoder.norm(stream).mean(axis=1)), 1)
        case LSTMClassifier():
            return ops.squeeze(model.decoder(stream.max(axis=1)), 1)
    raise ConfigError(f"{type(model).__name__} has no output layer that reads one residual stream: expected one model, or one member of an ensemble")
