"""Layers, with PyTorch's names, parameter shapes and defaults."""

from tinylm.nn import init as init
from tinylm.nn.attentions import MultiheadAttention as MultiheadAttention
from tinylm.nn.dropout_layer import Dropout as Dropout
from tinylm.nn.embeddings import Embedding as Embedding
from tinylm.nn.key_value_cache import KeyValueCache as KeyValueCache
from tinylm.nn.linear_layers import Linear as Linear
from tinylm.nn.linear_layers import joinable as joinable
from tinylm.nn.low_rank import LowRankLinear as LowRankLinear
from tinylm.nn.modules import Module as Module
from tinylm.nn.modules import ModuleList as ModuleList
from tinylm.nn.modules import Parameter as Parameter
from tinylm.nn.modules import Sequential as Sequential
from tinylm.nn.norms import LayerNorm as LayerNorm
from tinylm.nn.norms import RMSNorm as RMSNorm
from tinylm.nn.positions import PositionalEncoding as PositionalEncoding
from tinylm.nn.recurrents import GRU as GRU
from tinylm.nn.recurrents import LSTM as LSTM
from tinylm.nn.recurrents import RNN as RNN
from tinylm.nn.recurrents import GRUCell as GRUCell
from tinylm.nn.recurrents import LSTMCell as LSTMCell
from tinylm.nn.recurrents import RNNCell as RNNCell
from tinylm.nn.transformers import TransformerDecoder as TransformerDecoder
from tinylm.nn.transformers import TransformerDecoderLayer as TransformerDecoderLayer
from tinylm.nn.transformers import TransformerEncoder as TransformerEncoder
from tinylm.nn.transformers import TransformerEncoderLayer as TransformerEncoderLayer
