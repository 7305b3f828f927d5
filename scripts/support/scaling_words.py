"""What `train --scaling` says before its tables: what this run will reach, what more data and a larger model give, what a loss takes."""

import math
from collections.abc import Callable

from support.estimate_tables import duration
from tinylm.studies.scaling_predictions import Answer, CannotTell, Prediction
from tinylm.studies.scaling_target import Span, Target
from tinylm.train import TrainConfig


def sentences(configured: Answer, more_data: Answer, larger: Answer, wide: TrainConfig) -> list[str]:
    """Returns the three answers. wide: the config of the larger model."""
    this = f"This run ({configured.parameters:,.0f} parameters, {configured.tokens:,.0f} tokens)"
    said = [f"{this} will reach {loss_in_words(configured)}" if isinstance(configured, Prediction) else cannot(this, configured)]
    for what, answer in (
        (f"Ten times the data ({more_data.tokens:,.0f} tokens)", more_data),
        (f"Twice the size (--n-embd {wide.n_embd} --lr {wide.lr:g})", larger),
    ):
        if isinstance(answer, CannotTell):
            same = isinstance(configured, CannotTell) and answer.reason == configured.reason
            said.append(f"{what}: cannot tell{', for the same reason.' if same else f': {answer.reason}.'}")
        else:
            said.append(f"{what} gives {loss_in_words(answer)}{gain(configured, answer)}")
    return [line if line.endswith(".") else f"{line}." for line in said]


def loss_in_words(answer: Prediction) -> str:
    return f"about {answer.loss:.2f} nats per token, between {answer.low:.2f} and {answer.high:.2f}"


def gain(before: Answer, after: Prediction) -> str:
    """Returns by how much a change lowers the loss; "" where that is not known."""
    if isinstance(before, CannotTell):
        return ""
    return f": {before.loss - after.loss:.2f} lower" if after.loss < before.loss - 0.005 else ": no lower"


def cannot(what: str, answer: CannotTell) -> str:
    return f"{what}: cannot tell: {answer.reason}."


def target_sentence(target: Target, train_tokens: int) -> str:
    """Returns what the loss takes with the configured size, else by the first way there is, or why there is none."""
    if not target.ways:
        return f"{target.loss:g} nats per token: cannot tell: {target.reason}."
    way = target.ways[0]
    how = f"{spanned(way.tokens)} tokens of data, {spanned(way.parameters)} parameters and {hours_spanned(way.hours)} of training"
    passes = way.tokens.middle / train_tokens
    text = f" The text has {train_tokens:,} tokens to train on: more text is needed." if 1 < passes < math.inf else ""
    return f"{target.loss:g} nats per token take {how} ({way.name}).{text}"


def spanned(span: Span) -> str:
    """Returns a span of counts: 1.9M (1.2M to 4.0M); "or more" stands for an end that no backtest reached."""
    return shown(span, short)


def hours_spanned(span: Span) -> str:
    return shown(span, lambda hours: duration(3600 * hours))


def shown(span: Span, text: Callable[[float], str]) -> str:
    """Returns a span, each number as `text` writes it."""
    if span.low == span.high:
        return text(span.middle)
    if math.isinf(span.middle):
        return f"{text(span.low)} or more"
    return f"{text(span.middle)} ({text(span.low)} {'or more' if math.isinf(span.high) else f'to {text(span.high)}'})"


def short(count: float) -> str:
    """Returns a count with three digits: 614k, 1.92M."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"
