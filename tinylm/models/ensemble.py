"""Ensemble: several language models whose probabilities are averaged."""

import math
from collections.abc import Sequence
from typing import Any

from tinylm import nn, ops
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models.language_model import LanguageModel


class Ensemble(LanguageModel):
    """p(next) = 1/M Σ_m p_m(next), of M models that differ in their initial weights.

    Each learns as if it were alone: the loss in training is the mean of their losses. They make
    different mistakes, so that the mean of their probabilities is better than each of them.
    Hansen & Salamon 1990, "Neural network ensembles"; Lakshminarayanan et al. 2017, arXiv:1612.01474, section 2.4.
    members: at least one, of one vocabulary and block_size. Errors: ConfigError.
    """

    def __init__(self, members: Sequence[LanguageModel]) -> None:
        super().__init__()
        kinds = sorted({(m.vocab_size, m.block_size or 0) for m in members})
        if len(kinds) != 1:
            raise ConfigError(f"an ensemble's members have (vocab_size, block_size) {kinds}: expected one and the same")
        self.vocab_size, self.block_size = members[0].vocab_size, members[0].block_size
        self.members = nn.ModuleList(members)

    def advance(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As LanguageModel.advance: the logits are log p; the state is that of all members in a row."""
        each = self._each("advance", state, ids)
        return _mixed([logits for logits, _ in each]), _joined([state for _, state in each])

    def logits(self, ids: Tensor) -> Tensor:
        """As LanguageModel.logits."""
        return _mixed(self._each("logits", None, ids))

    def read(self, ids: Tensor, state: Any = None) -> Any:
        """As LanguageModel.read."""
        return _joined(self._each("read", state, ids))

    def loss(self, ids: Tensor, targets: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As LanguageModel.loss: the mean of the members' losses."""
        each = self._each("loss", state, ids, targets)
        return ops.stack([loss for loss, _ in each]).mean(), _joined([state for _, state in each])

    def _each(self, method: str, state: Any, *inputs: Tensor) -> list[Any]:
        """What every member's method gives for the inputs, and for its part of the state if there is one."""
        members: Any = self.members
        if state is None:
            return [getattr(m, method)(*inputs) for m in members]
        n = len(state) // len(members)
        return [getattr(m, method)(*inputs, state[i * n : (i + 1) * n]) for i, m in enumerate(members)]


def _mixed(each: Sequence[Tensor]) -> Tensor:
    """log of the mean of the probabilities."""
    return ops.logsumexp(ops.stack([ops.log_softmax(logits) for logits in each]), axis=0) - math.log(len(each))


def _joined(states: Sequence[Any]) -> Any:
    return [s for state in states for s in state or []] or None
