"""explain.py patch: where in the model the difference between two texts is carried."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import tyro

from inside.readings import Question, answer, load, picture
from tinylm import explain
from tinylm.errors import ConfigError
from tinylm.explain.questions.asked_texts import asked_beside
from tinylm.explain.questions.patching import Metric, What
from tinylm.explain.reading import ClassifierReading


@dataclass(frozen=True, kw_only=True)
class Patch(Question):
    """Has the model read OTHER, with one activation at a time taken from its run on TEXT, and prints how much of its answer to TEXT comes
    back, one line per position; and draws it. Both must have the same number of tokens. The answer is the next token after TEXT,
    of a translator the first in which the translations differ, of a classifier the logit of its second class."""

    other: Annotated[str, tyro.conf.Positional]
    """the text that the model reads while activations of TEXT are put in"""
    what: What = "stream"
    """the residual stream (of a recurrent model its states), what attention or the feed-forward (mlp) adds, each at one position; or
    heads, each at all positions"""
    answer: str | None = None
    """the right answer to TEXT, one token; by default what the model says"""
    metric: Metric | None = None
    """what is measured: the logit of the answer minus that of what the model says to OTHER, by default if the two are different, or
    the log-probability of the answer"""
    dry_run: bool = False
    """write nothing"""


def patch(arguments: Patch) -> None:
    if arguments.label is not None:
        raise ConfigError("--label is given, but patch measures the logit of a classifier's second class: expected none")
    read = load(dataclasses.replace(arguments, dry_run=False))  # the whole text: the beginnings of the two may be the same
    if arguments.answer is not None and isinstance(read, ClassifierReading):
        raise ConfigError("--answer is given, but the run is a classifier, whose logit is measured: expected none")
    right = None if arguments.answer is None else read.token_id(arguments.answer)
    found = explain.patch(
        read.model,
        **asked_beside(read, arguments.other),
        what=arguments.what,
        answer=right,
        metric=arguments.metric,
        texts=read.token_text,
        labels=read.labels,
    )
    answer(arguments, found.to_json(), found)
    picture(arguments, "patch.png", "", explain.draw_patching(found))
