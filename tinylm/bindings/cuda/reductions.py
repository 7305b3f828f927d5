"""Sums over the rows of a matrix, which the gradients of weights and biases end with."""

from tinylm.bindings.cuda.launching import CudaSource
from tinylm.engine.arrays import Array, array_module

TILE = (32, 8)  # columns and rows that a block reads at once
_COLUMN_SUMS = CudaSource("column_sums")
_CHUNK, _MOST_CHUNKS = 256, 64  # rows of a chunk at least; chunks at most


def chunks(rows: int) -> tuple[int, int]:
    """(number of chunks, rows of each) that a sum over `rows` is split into: a function of `rows`
    alone, so that the order of additions is fixed."""
    count = min(max(-(-rows // _CHUNK), 1), _MOST_CHUNKS)
    return count, -(-rows // count)


def tiles(columns: int) -> int:
    """Blocks side by side that cover the columns."""
    return -(-columns // TILE[0])


def column_sums(x: Array) -> Array:
    """Σ over the rows of a contiguous float32 matrix x (rows, columns) -> (columns,); a view of x when it has one row."""
    rows, columns = x.shape
    if rows == 1:
        return x[0]
    count, size = chunks(rows)
    out = array_module(x).empty((count, columns), x.dtype)
    _COLUMN_SUMS.launch("column_sums", (tiles(columns), count), TILE, x, out, rows, columns, size)
    return column_sums(out)
