"""Language models and translators."""

from tinylm.models.ensemble import Ensemble
from tinylm.models.gpt import GPT, GPTConfig
from tinylm.models.language_model import LanguageModel
from tinylm.models.llama import Llama, LlamaConfig
from tinylm.models.ngram import NgramLM
from tinylm.models.rnn_lm import RNNModel
from tinylm.models.rotary_scaling import DynamicScaling, FrequencyFactors, LinearScaling, RotaryScaling, YarnScaling
from tinylm.models.transformer_lm import TransformerModel
from tinylm.models.translator import RecurrentTranslator, Translator

__all__ = [
    "GPT", "DynamicScaling", "Ensemble", "FrequencyFactors", "GPTConfig", "LanguageModel", "LinearScaling", "Llama", "LlamaConfig",
    "NgramLM", "RNNModel", "RecurrentTranslator", "RotaryScaling", "TransformerModel", "Translator", "YarnScaling",
]  # fmt: skip
