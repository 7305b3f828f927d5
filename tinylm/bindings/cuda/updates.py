"""The in-place updates of optimisers: AdamW over a flat buffer, and the squared norm for clipping."""

import math

from tinylm.bindings.cuda.launching import CudaSource
from tinylm.engine.arrays import array_module
from tinylm.engine.kernels import kernel

_ADAMW, _SQUARED_NORM = CudaSource("adamw"), CudaSource("squared_norm")
_THREADS, _MOST_BLOCKS = 256, 1024


def _flat(*arrays):
    return all(a.ndim == 1 and a.shape == arrays[0].shape and a.flags.c_contiguous for a in arrays)


@kernel("adamw", device="cuda")
def adamw(values, grads, exp_avg, exp_avg_sq, /, *, lr, betas, eps, weight_decay, decoupled, step, grad_scale):
    if not _flat(values, grads, exp_avg, exp_avg_sq) or (grad_scale is not None and getattr(grad_scale, "dtype", None) != values.dtype):
        return NotImplemented
    beta1, beta2 = betas
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    rate, root = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
    _ADAMW.launch(
        "adamw", (-(-values.size // _THREADS),), (_THREADS,), values, grads, exp_avg, exp_avg_sq, grad_scale, values.size,
        shrink, decay, beta1, 1 - beta1, beta2, 1 - beta2, rate, root, eps,
    )  # fmt: skip
    return None


@kernel("squared_norm", device="cuda")
def squared_norm(grad, total, /):
    if not _flat(grad) or total.shape != ():
        return NotImplemented
    blocks = min(-(-grad.size // (4 * _THREADS)), _MOST_BLOCKS)
    if blocks:
        partial = array_module(grad).empty(blocks, grad.dtype)
        _SQUARED_NORM.launch("squared_norm_partial", (blocks,), (_THREADS,), grad, partial, grad.size)
        _SQUARED_NORM.launch("squared_norm_total", (1,), (_THREADS,), partial, total, blocks)
    return None
