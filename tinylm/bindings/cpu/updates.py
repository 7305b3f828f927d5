"""The in-place updates of optimisers over flat buffers, and the squared norm for clipping."""

import math

from tinylm.bindings.cpu.library import LARGEST, call, library
from tinylm.engine.kernels import kernel


def _serves(*arrays):
    return all(a.ndim == 1 and a.shape == arrays[0].shape and a.flags.c_contiguous for a in arrays) and library() is not None


@kernel("adamw", device="cpu")
def adamw(values, grads, exp_avg, exp_avg_sq, /, *, lr, betas, eps, weight_decay, decoupled, step, grad_scale):
    if not _serves(values, grads, exp_avg, exp_avg_sq):
        return NotImplemented
    beta1, beta2 = betas
    shrink, decay = (1 - lr * weight_decay, 0.0) if decoupled else (1.0, weight_decay)
    rate, root = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
    scale = 1.0 if grad_scale is None else grad_scale
    rates = scale, decay, beta1, 1 - beta1, beta2, 1 - beta2, shrink, rate, 1 / root, eps
    call("adamw", values.size, values, grads, exp_avg, exp_avg_sq, *map(float, rates))
    return None


@kernel("sgd", device="cpu")
def sgd(values, grads, velocity, /, *, lr, momentum, weight_decay, nesterov, step, grad_scale):
    if not _serves(values, grads, velocity):
        return NotImplemented
    scale, keep = 1.0 if grad_scale is None else grad_scale, momentum if step > 1 else 0.0
    call("sgd", values.size, values, grads, velocity, *map(float, (scale, weight_decay, lr, momentum, keep)), nesterov)
    return None


@kernel("muon", device="cpu")
def muon(values, grads, exp_avg, /, *, lr, momentum, weight_decay, grad_scale):
    arrays = values, grads, exp_avg
    if values.ndim != 2 or values.size == 0 or not all(a.shape == values.shape and a.flags.c_contiguous for a in arrays):
        return NotImplemented
    m, n = values.shape
    count, rows = (m // n, n) if m % n == 0 else (1, m)  # matrices on top of each other, and the rows of each
    if max(m, n) > LARGEST or library() is None:
        return NotImplemented
    scale = 1.0 if grad_scale is None else grad_scale
    rates = scale, momentum, 1 - momentum, 1 - lr * weight_decay, lr * math.sqrt(max(1, rows / n))
    call("muon", count, rows, n, values, grads, exp_avg, *map(float, rates))
    return None


@kernel("squared_norm", device="cpu")
def squared_norm(grad, total, /):
    if not _serves(grad) or total.shape != ():
        return NotImplemented
    call("squared_norm", grad.size, grad, total)
    return None
