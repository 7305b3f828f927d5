"""Layers, with PyTorch's names, parameter shapes and defaults."""

from tinylm.nn import init as init
from tinylm.nn.attention import MultiheadAttention as MultiheadAttention
from tinylm.nn.joint_linear import rotary_heads as rotary_heads
from tinylm.nn.joint_linear import swiglu_linear as swiglu_linear
from tinylm.nn.key_value_cache import KeyValueCache as KeyValueCache
from tinylm.nn.layers import Dropout as Dropout
from tinylm.nn.layers import Embedding as Embedding
from tinylm.nn.layers import LayerNorm as LayerNorm
from tinylm.nn.layers import Linear as Linear
from tinylm.nn.layers import RMSNorm as RMSNorm
from tinylm.nn.lora import LowRankLinear as LowRankLinear
from tinylm.nn.modules import Module as Module
from tinylm.nn.modules import ModuleList as ModuleList
from tinylm.nn.modules import Parameter as Parameter
from tinylm.nn.modules import Sequential as Sequential
from tinylm.nn.positional_encoding import PositionalEncoding as PositionalEncoding
from tinylm.nn.recurrent import GRU as GRU
from tinylm.nn.recurrent import LSTM as LSTM
from tinylm.nn.recurrent import RNN as RNN
from tinylm.nn.recurrent import GRUCell as GRUCell
from tinylm.nn.recurrent import LSTMCell as LSTMCell
from tinylm.nn.recurrent import RNNCell as RNNCell
from tinylm.nn.transformer import TransformerDecoder as TransformerDecoder
from tinylm.nn.transformer import TransformerDecoderLayer as TransformerDecoderLayer
from tinylm.nn.transformer import TransformerEncoder as TransformerEncoder
from tinylm.nn.transformer import TransformerEncoderLayer as TransformerEncoderLayer
