"""Dynamic evaluation: a model that continues to learn from the text that it is tested on, after each prediction."""

import numpy as np

from tinylm import ops, optim
from tinylm.data.batching import consecutive_blocks
from tinylm.decode.prompts import id_array
from tinylm.decode.stepping import cause_in, evaluating
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, DataError
from tinylm.models import LanguageModel


def dynamic_losses(
    model: LanguageModel, ids: np.ndarray, lr: float, segment: int = 32, clip: float = 1.0, device: str = "cpu"
) -> np.ndarray:
    """Returns -log p of every token but the first, in nats, each scored before the model learns from it.

    The text is read once, in segments: score one, then θ ← θ - lr ∇loss(segment), with the gradient's norm
    clipped and without dropout; in a model with adapters, θ are the adapters.
    Mikolov et al. 2010 (Interspeech), section 2; Krause et al. 2018 (arXiv:1709.07432).
    A recurrent model carries its state over segments; a Transformer's segments are its blocks.
    The model's weights are changed: load it again for anything else. Meanwhile it is in evaluation mode.
    lr: of plain gradient descent; segment: tokens per segment of a recurrent model.
    Raises DataError for fewer than two tokens; AnomalyError with the position when a loss or gradient is not finite any more.
    """
    ids = id_array(ids, 1, "token id")
    if len(ids) < 2:
        raise DataError(f"a loss over {len(ids)} tokens: expected at least 2, since the first one is not scored")
    optimizer = optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    with evaluating(model.modules()):
        return _losses(model, ids, optimizer, segment, clip, device)


def _losses(model: LanguageModel, ids: np.ndarray, optimizer: optim.SGD, segment: int, clip: float, device: str) -> np.ndarray:
    losses, state = [], None
    done = 0
    for x, y in consecutive_blocks(ids, model.block_size or segment, 1):
        inputs, targets = (Tensor(to_device(np.ascontiguousarray(a), device)) for a in (x, y))
        logits, new_state = model.advance(inputs, state)
        scored = ops.cross_entropy(logits, targets, reduction="none")
        losses.append(to_numpy(scored.data).astype(np.float64).ravel())
        if not np.isfinite(losses[-1]).all():
            learned = f" after it has learned from {done} tokens: try a lower learning rate" if done else cause_in(model)
            raise AnomalyError(f"the loss is {losses[-1].sum()} at position {done + int(np.argmin(np.isfinite(losses[-1])))}{learned}")
        done += losses[-1].size
        optimizer.zero_grad()
        scored.mean().backward()
        optimizer.step(max_norm=clip)
        if model.block_size is None:
            state = [s.detach() for s in new_state]
    return np.concatenate(losses)
