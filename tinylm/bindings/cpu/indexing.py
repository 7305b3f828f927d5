"""Embedding: rows of a table, and the table's gradient in a fixed order."""

import numpy as np

from tinylm.bindings.cpu.library import as_weight, call, contiguous, library
from tinylm.engine.ids import check_ids, padding_row
from tinylm.engine.kernels import kernel


@kernel("embedding", device="cpu", reads_stored=True)
def embedding(ids, weight, /, *, padding_idx=None):
    if weight.ndim != 2 or ids.dtype.kind not in "iu" or library() is None:
        return NotImplemented
    rows, columns = weight.shape
    padding = -1 if padding_idx is None else padding_row(padding_idx, rows)
    ids_ = np.ascontiguousarray(ids, np.int64)
    y = np.empty((*ids.shape, columns), np.float32)
    if not call("embedding_forward", ids.size, rows, columns, ids_, *as_weight(weight), y):
        check_ids(ids, rows, "embedding: token id")

    def vjp(dy):
        dweight = np.empty((rows, columns), np.float32)
        call("embedding_backward", ids.size, rows, columns, padding, ids_, contiguous(dy), dweight)
        return None, dweight

    return y, vjp
