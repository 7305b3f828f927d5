"""Sums over the rows of a matrix: the last step of the gradients of weights and biases."""

from tinylm.bindings.cuda.launching import CudaSource
from tinylm.engine.arrays import Array, array_module

TILE = (32, 8)  # columns and rows that a block reads at once
_COLUMN_SUMS = CudaSource("column_sums")
_CHUNK, _MOST_CHUNKS = 256, 64  # rows of a chunk at least; chunks at most


def chunks(rows: int) -> tuple[int, int]:
    """Returns the number of chunks that a sum over `rows` is split into, and the rows of each: a function of `rows`
    alone, so that the order of additions is fixed."""
    count = min(max(-(-rows // _CHUNK), 1), _MOST_CHUNKS)
    return count, -(-rows // count)


def tiles(columns: int) -> int:
    """Returns the number of blocks side by side that cover the columns."""
    return -(-columns // TILE[0])


def column_sums(x: Array, out: Array | None = None) -> Array:
    """Returns Σ over the rows of a contiguous float32 matrix x (rows, columns) -> (columns,), in `out` if it is given; without it, for
    one row, a view of x."""
    rows, columns = x.shape
    if rows == 1 and out is None:
        return x[0]
    count, size = chunks(rows)
    last = count == 1 and out is not None
    sums = out if last else array_module(x).empty((count, columns), x.dtype)
    _COLUMN_SUMS.launch("column_sums", (tiles(columns), count), TILE, x, sums, rows, columns, size)
    return sums if last else column_sums(sums, out)
