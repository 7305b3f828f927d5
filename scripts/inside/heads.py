"""explain.py heads: which kind of attention each head has."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro

from inside.readings import Question, answer, load, picture, refuse_other_tasks
from tinylm import explain
from tinylm.errors import ConfigError
from tinylm.explain.reading import LanguageReading
from tinylm.models import LanguageModel
from tinylm.train import load_run


@dataclass(frozen=True)
class Heads(Question):
    """Prints for each head of a language model how much it looks at the token before, at the first token, at the same
    token earlier, and at what followed the same token earlier (an induction head, which copies); and draws it. Without a
    text the model reads random tokens twice, in which nothing but the repetition can be predicted."""

    text: Annotated[str, tyro.conf.Positional] = ""
    """the text that the model reads; by default random tokens, read twice"""
    seed: int = 0
    """of the random tokens"""


def heads(arguments: Heads) -> None:
    refuse_other_tasks(arguments, "target", "label")
    if arguments.text:
        read = load(arguments)
        if not isinstance(read, LanguageReading):
            raise ConfigError(f"the run in {arguments.run} is no language model: only those have heads that look back in one text")
        model, found = read.model, explain.head_scores(read.model, read.ids)
    else:
        model, tokenizer, _ = load_run(arguments.run, arguments.device, arguments.weights)
        if not isinstance(model, LanguageModel):
            raise ConfigError("an n-gram model counts: it has no heads")
        found = explain.head_scores(model, start=tokenizer.start, seed=arguments.seed)
    answer(arguments, {"heads": found, "does": found.marks(), "verdict": found.verdict if np.isfinite(found.second_loss) else None}, found)
    picture(arguments, "heads.png", "", explain.draw_head_scores(found))
