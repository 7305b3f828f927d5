"""explain.py loss: which tokens of a text a language model predicts badly."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from inside.readings import Question, answer, picture, refuse_other_tasks
from tinylm import explain
from tinylm.errors import ConfigError
from tinylm.models import NgramLM
from tinylm.train import load_run


@dataclass(frozen=True)
class Losses(Question):
    """Prints the tokens of a text with the highest loss, in nats, and draws the text coloured by the
    loss. With --ngram it also prints where an n-gram model is better, and where the model is. The text may be longer than
    the context; it is scored as `score` does."""

    text: Annotated[str, tyro.conf.Positional]
    """the text, of any length"""
    ngram: Path | None = None
    """compare with the n-gram model in this run folder; it must have the same tokens"""


def loss(arguments: Losses) -> None:
    refuse_other_tasks(arguments, "target", "label")
    model, tokenizer, _ = load_run(arguments.run, arguments.device, arguments.weights)
    other = None
    if arguments.ngram is not None:
        other, its, _ = load_run(arguments.ngram)
        if not isinstance(other, NgramLM):
            raise ConfigError(f"the run in {arguments.ngram} is a {type(other).__name__}: expected an n-gram model")
        if its.to_json() != tokenizer.to_json():
            raise ConfigError(f"the n-gram model in {arguments.ngram} has other tokens than {arguments.run}")
    text = arguments.text[:20] if arguments.dry_run else arguments.text
    found = explain.text_losses(model, tokenizer, text, ngram=other, device=arguments.device)
    answer(arguments, {"tokens": found.tokens, "first": found.first, "losses": found.losses, "ngram": found.ngram}, found)
    picture(arguments, "loss.png", "", explain.draw_text_losses(found))
