"""Ensemble: several language models whose probabilities are averaged."""

import math
from collections.abc import Sequence
from typing import Any

from tinylm import nn, ops
from tinylm.errors import ConfigError
from tinylm.models.language_model import LanguageModel
from tinylm.tensor import Tensor


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
        each = self._advanced(ids, state)
        logs = ops.stack([ops.log_softmax(logits) for logits, _ in each])
        return ops.logsumexp(logs, axis=0) - math.log(len(each)), _joined(each)

    def loss(self, ids: Tensor, targets: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As LanguageModel.loss: the mean of the members' losses."""
        each = self._advanced(ids, state)
        total = ops.stack([ops.cross_entropy(logits, targets) for logits, _ in each])
        return total.mean(), _joined(each)

    def _advanced(self, ids: Tensor, state: Any) -> list[tuple[Tensor, Any]]:
        members: Any = self.members
        if state is None:
            return [m.advance(ids) for m in members]
        n = len(state) // len(members)
        return [m.advance(ids, state[i * n : (i + 1) * n]) for i, m in enumerate(members)]


def _joined(each: Sequence[tuple[Tensor, Any]]) -> Any:
    return [s for _, state in each for s in state or []] or None
