"""explain.py lens: what the model would say after each of its layers."""

from dataclasses import dataclass

from inside.readings import Question, answer, load, picture
from tinylm import explain
from tinylm.explain.questions.asked_texts import answer_name, asked


@dataclass(frozen=True)
class LogitLens(Question):
    """Prints what the model would say if it ended after each of its layers, one line per position, and from which layer on it says what it
    says in the end; then, layer by layer, at how many positions that is so. Tokens that the model stays with are in green. It
    draws the same. With --position it prints the most likely tokens of each layer at one position."""

    position: int | None = None
    """show one position in full, from 0"""


def lens(arguments: LogitLens) -> None:
    read = load(arguments)
    found = explain.lens(read.model, texts=answer_name(read), **asked(read))
    answer(arguments, found.to_json(), found if arguments.position is None else found.at(arguments.position))
    picture(arguments, "lens.png", "", explain.draw_lens(found))
