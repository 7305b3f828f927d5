"""The way from a residual stream to the logits: the final norm and the output layer."""

from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models import GPT, Llama, RNNModel, TransformerModel
from tinylm.models.classifier import LSTMClassifier, TransformerClassifier, per_text
from tinylm.models.translator import RecurrentTranslator, Translator
from tinylm.nn import Module, TransformerDecoder, TransformerEncoder


def readout(model: Module, stream: Tensor) -> Tensor:
    """Returns the logits that the end of a model makes of its residual stream, as if the layers after it were not there.

    stream (N, T, C) -> (N, T, V) through the final norm and the output layer; of a classifier (N, T, C) -> (N,) or (N, K), through
    its pooling over all T positions too. A TransformerModel, whose layers end with a norm, and recurrent models have no final norm; a
    translator's stream is its decoder's. Raises ConfigError for a model that has no such end.
    """
    match model:
        case GPT():
            return model.lm_head(model.transformer.ln_f(stream))
        case Llama():
            return model.lm_head(model.model.norm(stream))
        case TransformerModel() | RNNModel():
            return model.decoder(stream)
        case Translator():
            return model.logits(_normed(model.decoder, stream))
        case RecurrentTranslator():
            return model.logits(stream)
        case TransformerClassifier():
            return per_text(model.decoder(_normed(model.transformer_encoder, stream).mean(axis=1)))
        case LSTMClassifier():
            return per_text(model.decoder(stream.max(axis=1)))
    raise ConfigError(
        f"{type(model).__name__} has no output layer that reads one residual stream: expected one model, or one member of an ensemble"
    )


def _normed(layers: TransformerEncoder | TransformerDecoder, stream: Tensor) -> Tensor:
    return stream if layers.norm is None else layers.norm(stream)
