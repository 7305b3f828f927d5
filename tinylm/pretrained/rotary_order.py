"""The order of the rows of query and key projections, on which the pairs of rotary positions depend.

Hugging Face's files pair entry i of a head with entry i + D/2 ("half"); llama.cpp, and some of our own models, pair
neighbours ("interleaved"). The same rows in another order make one of the other.
"""

import numpy as np

from tinylm.models.llama import LlamaConfig


def heads_of(name: str, config: LlamaConfig) -> int | None:
    """Returns the number of heads of a query or key projection's parameter by its name; None for any other parameter."""
    return config.n_head if ".q_proj." in name else config.n_kv_head if ".k_proj." in name else None


def interleaved_to_half(rows: np.ndarray, heads: int) -> np.ndarray:
    """Returns the rows of each head in the order 0, 2, 4, ..., 1, 3, 5, .... Raises ValueError if they cannot be so divided."""
    return rows.reshape(heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def half_to_interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
    """Returns the rows of each head in the order 0, D/2, 1, D/2 + 1, ...: undoes `interleaved_to_half`."""
    return rows.reshape(heads, 2, -1, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def in_half_order(name: str, rows: np.ndarray, config: LlamaConfig) -> np.ndarray:
    """Returns a parameter of a model with that config as Hugging Face's files have it."""
    heads = heads_of(name, config)
    return rows if heads is None or config.rope_pairing == "half" else interleaved_to_half(rows, heads)
