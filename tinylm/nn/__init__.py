"""Layers, with PyTorch's names, parameter shapes and defaults."""

from tinylm.nn import init
from tinylm.nn.activations import ELU, GELU, Identity, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Softplus, Tanh
from tinylm.nn.attention import MultiheadAttention
from tinylm.nn.encoder_decoder import Transformer
from tinylm.nn.joint_linear import rotary_heads, swiglu_linear
from tinylm.nn.key_value_cache import KeyValueCache
from tinylm.nn.layers import Dropout, Embedding, LayerNorm, Linear, RMSNorm
from tinylm.nn.lora import LowRankLinear
from tinylm.nn.modules import Module, ModuleList, Parameter, Sequential
from tinylm.nn.positional_encoding import PositionalEncoding
from tinylm.nn.recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from tinylm.nn.transformer import TransformerDecoder, TransformerDecoderLayer, TransformerEncoder, TransformerEncoderLayer

__all__ = [
    "ELU", "GELU", "GRU", "LSTM", "RNN", "Dropout", "Embedding", "GRUCell", "Identity", "KeyValueCache", "LSTMCell", "LayerNorm",
    "LeakyReLU", "Linear", "LogSoftmax", "LowRankLinear", "Module", "ModuleList", "MultiheadAttention", "Parameter",
    "PositionalEncoding", "RMSNorm", "RNNCell", "ReLU", "Sequential", "SiLU", "Sigmoid", "Softmax", "Softplus", "Tanh",
    "Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer", "init",
    "rotary_heads", "swiglu_linear",
]  # fmt: skip
