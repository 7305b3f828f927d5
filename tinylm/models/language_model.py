"""What training, scoring and generation ask of every neural language model."""

from typing import Any

from tinylm import nn, ops
from tinylm.tensor import Tensor


class LanguageModel(nn.Module):
    """A model of the next token: p(ids[t + 1] | ids[..t]) = softmax(logits[t]).

    vocab_size: how many tokens there are.  block_size: the longest context it can look at, None
    for a recurrent model, whose context is carried in its state.
    """

    vocab_size: int
    block_size: int | None

    def advance(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(logits (N, T, vocab_size), state) for ids (N, T) that follow what `state` has seen.

        A state of None starts afresh. Models that keep none return None.
        """
        raise NotImplementedError(f"{type(self).__name__} has no advance")

    def loss(self, ids: Tensor, targets: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(what training makes smaller, state): the mean of -log p(targets), both (N, T), with `advance`."""
        logits, state = self.advance(ids, state)
        return ops.cross_entropy(logits, targets), state
