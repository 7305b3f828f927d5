"""Language models and translators."""

from tinylm.models.ensemble import Ensemble as Ensemble
from tinylm.models.gpt import GPT as GPT
from tinylm.models.gpt import GPTConfig as GPTConfig
from tinylm.models.language_model import LanguageModel as LanguageModel
from tinylm.models.llama import Llama as Llama
from tinylm.models.llama import LlamaConfig as LlamaConfig
from tinylm.models.llama import RotaryScaling as RotaryScaling
from tinylm.models.ngram import NgramLM as NgramLM
from tinylm.models.rnn_lm import RNNModel as RNNModel
from tinylm.models.transformer_lm import TransformerModel as TransformerModel
from tinylm.models.translator import RecurrentTranslator as RecurrentTranslator
from tinylm.models.translator import Translator as Translator
