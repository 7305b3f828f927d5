"""Draws text from a language model, one token at a time."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from tinylm.decode.constraints import check_no_repeat, checked_bias, completing_tokens
from tinylm.decode.prompts import forbidden_tokens, is_whole, prompt_ids, token_id
from tinylm.decode.stepping import Stepper
from tinylm.engine.random_keys import current
from tinylm.errors import AnomalyError, ConfigError, RangeError
from tinylm.models import LanguageModel, NgramLM


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn from the model's distribution p.

    In this order: tokens of the context are made less likely by repetition_penalty r, which turns
    log p into r log p (Keskar et al. 2019, arXiv:1909.05858, section 4.1, on log-probabilities);
    logit_bias[token] is added to log p, -inf forbids the token; tokens that would complete an n-gram which the context already
    has, with n = no_repeat_ngram, get probability 0 (Paulus et al. 2018, arXiv:1705.04304; 0 allows all);
    p becomes p^(1/temperature), rescaled; only the top_k most likely tokens are kept; of these the fewest
    whose probabilities reach top_p (nucleus sampling, Holtzman et al. 2019, arXiv:1904.09751); and
    those with at least min_p times the largest probability (Nguyen et al. 2024,
    arXiv:2407.01082). Or greedy: always the most likely token, of equal ones the smaller id.
    `token_biases` makes a logit_bias of texts. Raises ConfigError for a value outside its range.
    """

    greedy: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    logit_bias: Mapping[int, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if type(self.greedy) is not bool:
            raise ConfigError(f"greedy is {self.greedy!r:.60}: expected True or False")
        reason = "more than 0 (for the most likely token always, use greedy)"
        _require("temperature {}: expected " + reason, self.temperature, lambda t: 0 < t < math.inf)
        if self.top_k is not None:
            _require("top_k {}: expected at least 1, a whole number", self.top_k, lambda k: is_whole(k) and k >= 1)
        _require("top_p {} is out of range: expected more than 0, at most 1", self.top_p, lambda p: 0 < p <= 1)
        _require("min_p {} is out of range: expected 0 to 1", self.min_p, lambda p: 0 <= p <= 1)
        _require("repetition_penalty {}: expected at least 1", self.repetition_penalty, lambda r: 1 <= r < math.inf)
        check_no_repeat(self.no_repeat_ngram)
        if not isinstance(self.logit_bias, Mapping):
            raise ConfigError(f"logit_bias is {self.logit_bias!r:.60}: expected a bias for each of some token ids")
        for token, bias in self.logit_bias.items():
            if not is_whole(token) or token < 0:
                raise ConfigError(f"logit_bias has the key {token!r:.60}: expected the id of a token")
            checked_bias(bias, token)

    def distribution(self, log_p: np.ndarray, context: np.ndarray | None = None) -> np.ndarray:
        """Returns the probabilities to draw from, (V,) float64, for log-probabilities (V,) after `context`; without a
        repetition_penalty, these need only be right up to a constant.

        Raises ConfigError for a top_k larger than V, AnomalyError for a NaN, for +inf, or if no token is possible.
        """
        scaled = self._adjusted(log_p, context).astype(np.float64)
        if self.greedy:
            chosen = np.zeros(log_p.size)
            chosen[np.argmax(scaled)] = 1
            return chosen
        with np.errstate(over="ignore"):  # far below the maximum at a temperature near 0: -inf, a probability of 0
            p = np.exp((scaled - scaled.max()) / self.temperature)
        p /= p.sum()
        order = np.argsort(-p, kind="stable")  # the most likely first, equal ones by id
        kept = p.size if self.top_k is None else self.top_k
        if self.top_p < 1:
            reached = np.cumsum(p[order[:kept]]) / p[order[:kept]].sum()
            kept = int(np.searchsorted(reached, self.top_p * (1 - 1e-12))) + 1
        p[order[kept:]] = 0
        p[p < self.min_p * p[order[0]]] = 0
        return p / p.sum()

    def token(self, log_p: np.ndarray, context: np.ndarray | None, random: np.random.Generator) -> int:
        """Draws one token from that distribution. Raises as `distribution` does."""
        if self.greedy:  # without the distribution, which takes longer
            return int(self._adjusted(log_p, context).argmax())
        return draw(self.distribution(log_p, context), random)

    def _adjusted(self, log_p: np.ndarray, context: np.ndarray | None) -> np.ndarray:
        """Returns log_p after the repetition_penalty, the logit_bias and no_repeat_ngram, checked."""
        if self.top_k is not None and self.top_k > log_p.size:
            raise ConfigError(f"top_k {self.top_k} is larger than the vocabulary, {log_p.size}")
        if not -math.inf < log_p.max() < math.inf:  # a NaN is the maximum
            raise AnomalyError(f"no token can be drawn: the largest log-probability is {log_p.max()}")
        seen = np.zeros(0, np.int64) if context is None else np.asarray(context)
        if not self.logit_bias and (context is None or (self.repetition_penalty == 1 and not self.no_repeat_ngram)):
            return log_p
        adjusted = log_p.astype(np.float64)
        if self.repetition_penalty != 1:
            adjusted[np.unique(seen)] *= self.repetition_penalty
        if self.logit_bias:
            if (largest := max(self.logit_bias)) >= log_p.size:
                raise RangeError(f"a token of logit_bias is {largest}, which is out of range: expected 0 to {log_p.size - 1}")
            adjusted[list(self.logit_bias)] += list(self.logit_bias.values())
        adjusted[completing_tokens(seen, self.no_repeat_ngram)] = -math.inf
        if adjusted.max() == -math.inf:
            reasons = {f"no_repeat_ngram {self.no_repeat_ngram}": self.no_repeat_ngram, "logit_bias": self.logit_bias}
            raise AnomalyError(f"no token can be drawn: none is left by {' and '.join(name for name, set_ in reasons.items() if set_)}")
        return adjusted


def generate(
    model: LanguageModel | NgramLM,
    prompt: Sequence[int],
    tokens: int,
    sampling: Sampling | None = None,
    *,
    device: str = "cpu",
    random: np.random.Generator | None = None,
    forbidden: Sequence[int] = (),
    ends: Sequence[int] = (),
    use_cache: bool = True,
) -> Iterator[int]:
    """Yields `tokens` ids that continue the prompt, fewer if one of `ends` is drawn, such as the tokenizer's: it is left out.

    random: by default the next stream of the seeded generator, so that the same seed gives the same
    text. forbidden: ids that are never drawn, such as <unk>. Beyond a Transformer's block_size the
    context slides as described in `Stepper`. Raises what `generate_batch` raises.
    """
    settings: dict[str, Any] = {"device": device, "randoms": [random], "forbidden": forbidden, "ends": ends, "use_cache": use_cache}
    for row in generate_batch(model, [prompt], tokens, sampling, **settings):
        if row[0] in ends:
            return
        yield row[0]


def generate_batch(
    model: LanguageModel | NgramLM,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    sampling: Sampling | None = None,
    *,
    device: str = "cpu",
    randoms: Sequence[np.random.Generator | None] | None = None,
    forbidden: Sequence[int] = (),
    ends: Sequence[int] = (),
    use_cache: bool = True,
) -> Iterator[list[int]]:
    """Yields the next id of each prompt, `tokens` times. All prompts have the same length in tokens.

    Equal prompts are computed once, and their rows go on from copies of the same state: `[prompt] * n` are n samples of one prompt.
    ends: a row that has drawn one of these ids repeats it from then on, and when every row has, nothing more is yielded.
    Each row draws from its own random stream, by default the next of the seeded generator, so that its text does not depend on the
    others': it is what `generate` draws from that stream, up to the rounding of products of more rows. While a step is computed the
    model is in evaluation mode, and between the steps and afterwards as it was.
    Raises ConfigError for an empty prompt, a number of tokens that is not one from 0 on, streams that are none, or if the whole
    vocabulary is forbidden; ShapeError and RangeError for prompts and forbidden ids that are no ids of the vocabulary;
    AnomalyError if the model's logits are not finite, with the position and the first parameter that is not.
    """
    sampling = sampling or Sampling()
    new = prompt_ids(prompts, model.vocab_size)
    if not is_whole(tokens) or tokens < 0:
        raise ConfigError(f"tokens {tokens!r:.60}: expected at least 0, a whole number")
    banned = forbidden_tokens(forbidden, model.vocab_size)
    given = [None] * len(new) if randoms is None else list(randoms)
    if len(given) != len(new) or not all(r is None or callable(getattr(r, "random", None)) for r in given):
        raise ConfigError(f"randoms is {randoms!r:.60}: expected a random generator or None for each of the {len(new)} prompts")
    streams = [current.generator.numpy() if r is None else r for r in given]
    last = {token_id(i, model.vocab_size, "an end of text") for i in ends}
    stepper = Stepper(model, device, use_cache)
    copies = first_of_equals(new)
    over: list[int | None] = [None] * len(new)  # the end that a row has drawn
    for _ in range(tokens):
        read = stepper.scores if sampling.repetition_penalty == 1 else stepper.feed
        if stepper.seen is None and len(apart := np.unique(copies)) < len(new):
            again = np.searchsorted(apart, copies)
            log_p = read(new[apart])[again]
            stepper.select(again)
        else:
            log_p = read(new)
        log_p[:, banned] = -np.inf
        assert stepper.seen is not None
        rows = zip(log_p, stepper.seen, streams, over, strict=True)
        drawn = [sampling.token(row, seen, r) if end is None else end for row, seen, r, end in rows]
        over = [token if token in last else None for token in drawn]
        yield list(drawn)
        if None not in over:
            return
        new = np.array(drawn, np.int64)[:, None]


def first_of_equals(rows: np.ndarray) -> np.ndarray:
    """Returns for each row the number of the first row that is equal to it."""
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(row.tobytes(), i) for i, row in enumerate(rows)])


def _require(message: str, value: Any, fits: Callable[[Any], bool]) -> None:
    """Raises ConfigError with the value in the message unless it is a number that fits."""
    if not isinstance(value, Real) or isinstance(value, bool) or not fits(value):
        raise ConfigError(message.format(f"{value!r:.60}"))


def draw(p: np.ndarray, random: np.random.Generator) -> int:
    """Draws one token: the inverse of the distribution function at a uniform random number.

    The probabilities need not add up to 1. Raises AnomalyError if one is below 0 or not finite, or if none is more than 0.
    """
    cumulative = np.cumsum(p)
    if not (p.size and p.min() >= 0 and 0 < cumulative[-1] < math.inf):
        wrong = np.flatnonzero(~((p >= 0) & (p < math.inf)))
        what = f"the probability of token {wrong[0]} is {p[wrong[0]]:g}" if wrong.size else "the probabilities' sum is 0 or infinite"
        raise AnomalyError(f"no token can be drawn: {what}")
    return int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right"))


def cut_at_stops(pieces: Iterator[str], stops: Sequence[str]) -> Iterator[str]:
    """Yields the text up to the first complete stop string. Text that may be the beginning of a stop string
    waits until that is decided. How the text is divided into pieces does not matter.

    Raises ConfigError for an empty stop string, and for stops that are no sequence of strings.
    """
    if isinstance(stops, str) or not all(isinstance(stop, str) for stop in stops):
        raise ConfigError(f"the stop strings are {stops!r:.60}: expected a list of strings")
    if "" in stops:
        raise ConfigError("a stop string is empty")
    pending = ""
    longest = max((len(s) for s in stops), default=0)
    for piece in pieces:
        pending += piece
        found = [(pending.find(s) + len(s), pending.find(s)) for s in stops if s in pending]
        if found:
            yield pending[: min(found)[1]]  # the first one to be complete; of several the longest
            return
        safe = len(pending)
        for n in range(1, min(longest, len(pending)) + 1):
            if any(s.startswith(pending[-n:]) for s in stops):
                safe = len(pending) - n
        if safe:
            yield pending[:safe]
            pending = pending[safe:]
    yield pending
