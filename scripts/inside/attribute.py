"""explain.py attribute: which parts of the model, and which tokens, made it say so."""

from dataclasses import dataclass
from typing import Any, Literal

from inside.readings import Question, answer, load, picture
from tinylm import explain
from tinylm.errors import ConfigError
from tinylm.explain.asked_logit import AskedLogit, asked_logit
from tinylm.explain.reading import LanguageReading, Reading


@dataclass(frozen=True)
class Attribute(Question):
    """Prints which heads and MLPs wrote a logit (GPT and Llama; the largest first), and which tokens of the text
    raised it, by integrated gradients and by gradient × input; and draws both. The logit is that of the next token of a
    language model or a translator, or of a classifier's label."""

    position: int | None = None
    """explain what the model says after the token at this position, from 0; by default after the last one"""
    token: str | None = None
    """the token whose logit is explained; by default the most likely one there"""
    against: str | None = None
    """subtract the logit of this token: what raises both alike then has no part in it"""
    baseline: Literal["mean", "zero"] = "mean"
    """where the path of the integrated gradients begins: at the mean embedding of the vocabulary, or at zero"""
    steps: int = 512
    """points on this path, at most; they are fewer if the completeness error is below 1 % before"""


def attribute(arguments: Attribute) -> None:
    read = load(arguments)
    asked = asked_logit(read, arguments.position, arguments.token, arguments.against)
    inputs = explain.input_attribution(read.model, asked.score, asked.tokens, steps=arguments.steps, baseline=arguments.baseline)
    direct, why = by_part(read, asked)
    record = {
        "logit": asked.about,
        "position": asked.position,
        "token": asked.token,
        "against": asked.against,
        "inputs": inputs,
        "completeness_error": inputs.completeness_error,
        "direct": direct,
        "remainder": None if direct is None else direct.remainder,
    }
    answer(arguments, record, asked.about, "", why if direct is None else direct, "", inputs)
    title = f"What raised (orange) and lowered (blue) {asked.about}"
    picture(arguments, "attribute.png", "tokens", explain.draw_input_attribution(inputs, title))
    if direct is not None:
        picture(arguments, "attribute.png", "parts", explain.draw_direct_attribution(direct, f"What wrote {asked.about}"))


def by_part(read: Reading, asked: AskedLogit) -> tuple[Any, str]:
    """Returns (what each part wrote, ""), or (None, why there is no such sum)."""
    if not isinstance(read, LanguageReading):
        return (
            None,
            f"no table of parts: only the logit of a GPT or Llama is the sum of what they wrote, not that of {type(read.model).__name__}",
        )
    assert asked.position is not None
    try:
        return explain.direct_attribution(read.model, read.ids, position=asked.position, token=asked.token, against=asked.against), ""
    except ConfigError as error:
        return None, str(error)
