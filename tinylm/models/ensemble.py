"""Ensemble: several language models whose probabilities are averaged."""

import math
from collections.abc import Iterator, Sequence

from tinylm import nn, ops
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models.language_model import LanguageModel, State


class Ensemble(LanguageModel[State]):
    """p(next) = 1/M Σ_m p_m(next), of M models that differ in their initial weights.

    Each learns as if it were alone: the training loss is the mean of their losses. They make
    different mistakes, so that the mean of their probabilities is better than any one of them.
    Hansen & Salamon 1990, "Neural network ensembles"; Lakshminarayanan et al. 2017, arXiv:1612.01474, section 2.4.
    members: at least one; all have the same vocabulary and block_size, or ConfigError is raised.
    """

    def __init__(self, members: Sequence[LanguageModel[State]]) -> None:
        super().__init__()
        kinds = sorted({(m.vocab_size, m.block_size or 0) for m in members})
        if len(kinds) != 1:
            raise ConfigError(f"an ensemble's members have (vocab_size, block_size) {kinds}: expected one and the same")
        self.vocab_size, self.block_size = members[0].vocab_size, members[0].block_size
        self.members: nn.ModuleList[LanguageModel[State]] = nn.ModuleList(members)

    def advance(self, ids: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """As LanguageModel.advance: the logits are log p; the state is those of all members, one after the other."""
        each = [m.advance(ids, part) for m, part in self._with_parts(state)]
        return _mixed([logits for logits, _ in each]), _joined([state for _, state in each])

    def advance_to_last(self, ids: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """As LanguageModel.advance_to_last."""
        each = [m.advance_to_last(ids, part) for m, part in self._with_parts(state)]
        return _mixed([logits for logits, _ in each]), _joined([state for _, state in each])

    def logits(self, ids: Tensor) -> Tensor:
        """As LanguageModel.logits."""
        return _mixed([m.logits(ids) for m in self.members])

    def read(self, ids: Tensor, state: list[State] | None = None) -> list[State]:
        """As LanguageModel.read."""
        return _joined([m.read(ids, part) for m, part in self._with_parts(state)])

    def loss(self, ids: Tensor, targets: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State] | None]:
        """As LanguageModel.loss: the mean of the members' losses."""
        each = [m.loss(ids, targets, part) for m, part in self._with_parts(state)]
        return ops.stack([loss for loss, _ in each]).mean(), _joined([state or [] for _, state in each]) or None

    def _with_parts(self, state: list[State] | None) -> Iterator[tuple[LanguageModel[State], list[State] | None]]:
        """Yields each member with its part of the state, None without a state."""
        n = 0 if state is None else len(state) // len(self.members)
        for i, member in enumerate(self.members):
            yield member, None if state is None else state[i * n : (i + 1) * n]


def _mixed(each: Sequence[Tensor]) -> Tensor:
    """Returns the log of the mean of the probabilities: logits (..., V) of each member -> (..., V)."""
    return ops.logsumexp(ops.stack([ops.log_softmax(logits) for logits in each]), axis=0) - math.log(len(each))


def _joined(states: Sequence[list[State]]) -> list[State]:
    return [part for state in states for part in state]
