"""Decoding a sequence-to-sequence model: greedy, and by beam search."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol

import numpy as np

from tinylm.decode.constraints import check_no_repeat, completing_tokens, keep_required, repeating_tokens
from tinylm.decode.prompts import is_whole, token_id
from tinylm.decode.stepping import checked_logits, evaluation_mode, log_softmax
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, ConfigError


class State(Protocol):
    """What a model keeps between steps, one row per sequence."""

    def select(self, rows: np.ndarray) -> Any: ...


class Steps(Protocol):
    """A model that decodes: ids (N,) and a state -> logits (N, V) of the next token and the new state."""

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]: ...


@dataclass(frozen=True)
class Hypothesis:
    """A decoded sequence: its ids without begin and end, and log p in nats (with that of the end if it is finished)."""

    tokens: list[int]
    log_probability: float
    finished: bool

    def score(self, alpha: float) -> float:
        """Returns log p divided by `length_penalty` of the number of tokens, the end included."""
        return self.log_probability / length_penalty(len(self.tokens) + self.finished, alpha)


def length_penalty(n: int, alpha: float) -> float:
    """Returns ((5 + n) / 6)^α: 1 for α = 0; otherwise it compensates for the probability that each further token costs.
    Wu et al. 2016, arXiv:1609.08144, eq. 14."""
    return ((5 + n) / 6) ** alpha


def greedy(
    model: Steps,
    state: State,
    *,
    bos: int,
    eos: int,
    max_tokens: int,
    forbidden: Sequence[int] = (),
    no_repeat_ngram: int = 0,
    most_repeats: int = 0,
    required: Mapping[int, int] | None = None,
    device: str = "cpu",
) -> Hypothesis:
    """Decodes with the most likely token at each step (of equal ones the smaller id), until `eos` or max_tokens tokens, eos included.

    state: of one sequence, as `encode` gives it. forbidden: ids never chosen; probabilities are
    not rescaled without them. no_repeat_ngram: if it is n > 0, a token that would complete an n-gram which the sequence already
    has is not chosen either. most_repeats: if it is n > 0, no sequence of tokens stands more than n times in a row. required: how often a
    sequence has each of these tokens, exactly; where it would end without one, that follows instead, and the last of the max_tokens are
    kept for them. Meanwhile the model is in evaluation mode. Raises ConfigError for a max_tokens that is no whole number from 0 on, or
    too small for the required tokens, RangeError for bos, eos, required or forbidden ids outside the vocabulary, AnomalyError for
    logits that are not finite, with the position and the first parameter that is not, or if no token is possible.
    """
    rules = _Rules(eos, max_tokens, no_repeat_ngram, most_repeats, required or {})
    tokens: list[int] = []
    total, last = 0.0, bos
    for step in range(max_tokens):
        log_p, state = _next(model, np.array([last]), state, eos, forbidden, device, step)
        rules.keep(log_p, [tokens])
        last = int(np.argmax(log_p[0]))
        total += float(log_p[0, last])
        if last == eos:
            return Hypothesis(tokens, total, True)
        tokens.append(last)
    return Hypothesis(tokens, total, False)


def beam_search(
    model: Steps,
    state: State,
    *,
    bos: int,
    eos: int,
    max_tokens: int,
    beams: int = 4,
    alpha: float = 0.6,
    best: int = 1,
    forbidden: Sequence[int] = (),
    no_repeat_ngram: int = 0,
    most_repeats: int = 0,
    required: Mapping[int, int] | None = None,
    device: str = "cpu",
) -> list[Hypothesis]:
    """Returns the best sequences found, at most `beams` of them, in order of falling score.

    At each step every live hypothesis is extended by every token, and the most likely results are kept,
    one for each free beam. A hypothesis that ends with `eos` is finished and keeps its beam, so that one
    beam is `greedy`, and as many beams as there are sequences are an exhaustive
    search (Sutskever et al. 2014, arXiv:1409.3215, section 3.2). The search ends when no beam is
    free, when max_tokens are reached (eos included), or when no live hypothesis could still
    be among the `best` finished ones of the highest scores. Unfinished hypotheses are returned only if none is finished.
    Otherwise as `greedy`. Raises ConfigError for beams or best that are no whole number from 1 on, or alpha < 0, else as `greedy` does.
    """
    check_beams(beams, best, alpha)
    rules = _Rules(eos, max_tokens, no_repeat_ngram, most_repeats, required or {})
    live, totals, guarded = [[bos]], np.zeros(1), np.zeros(1, bool)
    finished: list[Hypothesis] = []
    largest = length_penalty(max_tokens, alpha)
    for step in range(max_tokens):
        log_p, state = _next(model, np.array([tokens[-1] for tokens in live]), state, eos, forbidden, device, step)
        pressed = rules.keep(log_p, [tokens[1:] for tokens in live], bool(finished))
        candidates = (totals[:, None] + log_p).ravel()
        order = np.argsort(-candidates, kind="stable")[: beams - len(finished)]
        guarded |= pressed
        if guarded.any():  # however unlikely, the best of those that had to write what they would have ended without stays
            last = int(np.where(guarded[:, None], candidates.reshape(log_p.shape), -math.inf).argmax())
            if candidates[last] > -math.inf and last not in order:
                order[-1] = last
        parents, chosen = np.divmod(order[candidates[order] > -math.inf], log_p.shape[1])
        ended = chosen == eos
        for parent in parents[ended]:
            finished.append(Hypothesis(live[parent][1:], float(candidates[parent * log_p.shape[1] + eos]), True))
        parents, chosen = parents[~ended], chosen[~ended]
        guarded = guarded[parents]
        live = [[*live[parent], int(token)] for parent, token in zip(parents, chosen, strict=True)]
        totals = candidates[parents * log_p.shape[1] + chosen]
        # log p only falls and the penalty only grows, so this is the highest score that a live one can reach
        if not live:
            break
        if len(finished) >= best and totals.max() / largest <= sorted(h.score(alpha) for h in finished)[-best]:
            break
        state = state.select(parents)
    results = finished or [Hypothesis(tokens[1:], float(total), False) for tokens, total in zip(live, totals, strict=True)]
    return sorted(results, key=lambda h: -h.score(alpha))


def check_beams(beams: Any, best: Any, alpha: float) -> None:
    """Raises ConfigError for beams or best that are no whole number from 1 on, or alpha < 0."""
    _check_settings(1, beams=beams, best=best)
    if not isinstance(alpha, Real) or not 0 <= alpha < math.inf:
        raise ConfigError(f"alpha is {alpha!r:.60}: expected at least 0")


def _check_settings(least: int, **settings: Any) -> None:
    for name, value in settings.items():
        if not is_whole(value) or value < least:
            raise ConfigError(f"{name} is {value!r:.60}: expected at least {least}, a whole number")


@dataclass(frozen=True)
class _Rules:
    """What a decoded sequence keeps to: see `greedy`."""

    eos: int
    max_tokens: int
    no_repeat_ngram: int
    most_repeats: int
    required: Mapping[int, int]

    def __post_init__(self) -> None:
        _check_settings(0, max_tokens=self.max_tokens, most_repeats=self.most_repeats)
        check_no_repeat(self.no_repeat_ngram)
        _check_settings(0, **{f"the number of required tokens {token}": n for token, n in self.required.items()})
        if (total := sum(self.required.values())) > self.max_tokens:
            raise ConfigError(f"max_tokens is {self.max_tokens}: expected at least {total}, the number of required tokens")

    def keep(self, log_p: np.ndarray, sequences: Sequence[Sequence[int]], finished: bool = False) -> np.ndarray:
        """Gives log-probability -inf to the tokens (N, V) that may not follow the sequences, in place; required tokens may be repeated.
        Returns (N,) booleans as `keep_required` does.

        Raises AnomalyError if no sequence can go on then, and none is finished."""
        for row, tokens in zip(log_p, sequences, strict=True):
            blocked = {*repeating_tokens(tokens, self.most_repeats)}
            if self.no_repeat_ngram:
                blocked.update(completing_tokens(np.array(tokens, np.int64), self.no_repeat_ngram).tolist())
            row[[*(blocked - self.required.keys())]] = -math.inf
        position = len(sequences[0])
        for token in self.required:
            token_id(token, log_p.shape[1], "a required token")
        pressed = keep_required(log_p, sequences, self.required, self.eos, self.max_tokens - position)
        if log_p.max() == -math.inf and not finished:
            why = f"each would repeat an n-gram (no_repeat_ngram {self.no_repeat_ngram})" if self.no_repeat_ngram else "each breaks a rule"
            raise AnomalyError(f"no token is possible at position {position}: {why}")
        return pressed


def _next(
    model: Steps, last: np.ndarray, state: State, eos: int, forbidden: Sequence[int], device: str, step: int
) -> tuple[np.ndarray, Any]:
    """Returns the log-probabilities (N, V) of the next token, and the new state. step: how many tokens were read before."""
    with evaluation_mode(model):
        logits, state = model.step(Tensor(to_device(last, device)), state)
    log_p = log_softmax(checked_logits(model, to_numpy(logits.data), step))
    token_id(eos, log_p.shape[1], "eos")
    log_p[:, [token_id(i, log_p.shape[1], "a forbidden token") for i in forbidden]] = -math.inf
    if not (log_p.max(axis=-1) > -math.inf).all():
        raise AnomalyError(f"no token is possible at position {step}: those that the model gives a probability are forbidden")
    return log_p, state
