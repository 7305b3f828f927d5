"""Sinusoidal positions, which tell a Transformer the order of its inputs."""

import math

import numpy as np

from tinylm.checks import check_sizes
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.nn.layers import Dropout
from tinylm.nn.modules import Module


class PositionalEncoding(Module):
    """dropout(x + PE): PE[t, 2i] = sin(t / 10000^(2i/d)), PE[t, 2i + 1] = cos(t / 10000^(2i/d)).

    Vaswani et al. 2017, arXiv:1706.03762, section 3.5.  x (T, N, d_model) -> (T, N, d_model).
    Buffer pe (max_len, 1, d_model), saved. An odd d_model ends with a sine.
    """

    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 5000) -> None:
        super().__init__()
        check_sizes(d_model=d_model, max_len=max_len)
        self.dropout = Dropout(dropout)
        angles = np.arange(max_len)[:, None] * np.exp(np.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = np.zeros((max_len, 1, d_model), np.float32)  # from float64 angles: at t = 5000 float32 ones are off by 10⁻⁴
        pe[:, 0, 0::2] = np.sin(angles)
        pe[:, 0, 1::2] = np.cos(angles[:, : d_model // 2])
        self.register_buffer("pe", Tensor(pe))
        self.pe: Tensor

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Returns dropout(x + PE) for the positions start, start + 1, ...  Raises ShapeError if they pass max_len."""
        max_len, _, d_model = self.pe.shape
        if x.ndim != 3 or x.shape[2] != d_model or start + x.shape[0] > max_len:
            raise ShapeError(
                f"PositionalEncoding: x has shape {x.shape} from position {start}, "
                f"expected (T, N, {d_model}) with at most {max_len} positions"
            )
        return self.dropout(x + self.pe[start : start + x.shape[0]])  # (T, N, d_model) + (T, 1, d_model)
