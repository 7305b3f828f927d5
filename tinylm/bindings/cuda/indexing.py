"""Embedding: rows of a table, and the table's gradient in a fixed order."""

from tinylm.bindings.cuda.launching import CudaSource, contiguous, row_threads
from tinylm.bindings.cuda.reductions import TILE, tiles
from tinylm.engine.arrays import array_module
from tinylm.engine.gradient_places import buffer_for
from tinylm.engine.ids import padding_row, place_of_check
from tinylm.engine.kernels import kernel

_EMBEDDING = CudaSource("embedding")
_ENOUGH_BLOCKS = 4096  # to keep a GPU busy
_TILES = 8  # of 32 columns, that a block of the gradient takes at most: TILES of the kernel


@kernel("embedding", device="cuda")
def embedding(ids, weight, /, *, padding_idx=None):
    if weight.ndim != 2:
        return NotImplemented
    found = place_of_check(ids, weight.shape[0], "embedding: token id")
    padding = -1 if padding_idx is None else padding_row(padding_idx, weight.shape[0])
    xp = array_module(weight)
    shape, (rows, columns), dtype = ids.shape, weight.shape, weight.dtype
    ids = contiguous(ids, xp.int64).reshape(-1)
    y = xp.empty((*shape, columns), dtype)
    _EMBEDDING.launch("embedding_rows", (ids.size,), (row_threads(columns),), ids, contiguous(weight), y, rows, columns, found)

    def vjp(dy):
        dweight, count = buffer_for(weight), tiles(columns)
        if dweight is None:
            dweight = xp.empty((rows, columns), dtype)
        parts = max(-(-count // _TILES), min(count, -(-_ENOUGH_BLOCKS // max(rows, 1))))
        _EMBEDDING.launch(
            "embedding_gradient", (rows, parts), TILE, ids, contiguous(dy, dtype), dweight, ids.size, columns, padding
        )  # fmt: skip
        return None, dweight

    return y, vjp
