"""Embedding: the lookup is the library's, the gradient of the table a kernel."""

from tinylm.backend import array_module, check_ids
from tinylm.bindings.cuda.launching import CudaSource, contiguous
from tinylm.bindings.cuda.reductions import TILE, tiles
from tinylm.kernel_registry import kernel

_EMBEDDING = CudaSource("embedding")


@kernel("embedding", device="cuda")
def embedding(ids, weight, /, *, padding_idx=None):
    if weight.ndim != 2:
        return NotImplemented
    check_ids(ids, weight.shape[0], "embedding: token id")
    xp = array_module(weight)
    rows, columns = weight.shape
    dtype = weight.dtype

    def vjp(dy):
        flat = contiguous(ids, xp.int64).reshape(-1)
        order = xp.argsort(flat, kind="stable")
        dweight = xp.empty((rows, columns), dtype)
        _EMBEDDING.launch(
            "embedding_gradient", (rows, tiles(columns)), TILE, flat[order], order, contiguous(dy, dtype), dweight,
            flat.size, columns, -1 if padding_idx is None else padding_idx,
        )  # fmt: skip
        return None, dweight

    return weight[ids], vjp
