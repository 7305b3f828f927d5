"""explain.py backward: the gradients, from the loss down."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.text import Text

from inside.readings import Reading, load, show
from tinylm import explain
from tinylm.errors import ConfigError
from tinylm.explain.terminal import overview, reason, sentence
from tinylm.explain.time_steps import is_recurrent


@dataclass(frozen=True)
class Backward(Reading):
    """Prints the backward pass, one line per step, from the loss down. The loss is that of a language model that
    predicts each token of the text from those before it, of a translator that writes the translation, or of a
    classifier that gives the label. --parameter shows why a parameter's gradient is what it is."""

    parameter: str | None = None
    """show where the gradient of this parameter comes from: its parts and the steps that produced them"""
    step: int | None = None
    """show this step in full, the op of a recurrent layer with all its time steps"""
    page: Path | None = None
    """write the whole pass to this file as an HTML page"""


def backward(arguments: Backward) -> None:
    read = load(arguments)
    loss = read.loss()
    text = arguments.text[:20] if arguments.dry_run else arguments.text
    about = f"{read.about}, for the text {text if len(text) <= 200 else text[:199] + '…'!r}"
    if arguments.page is not None and not arguments.dry_run:
        explain.page(loss, arguments.page, model=read.model, about=about)
        print(f"written: {arguments.page}")
    steps = list(explain.steps(loss, model=read.model))
    said = Text(sentence(loss, len(steps), read.model, about))
    if arguments.parameter is not None:
        leaves = {name: leaf for leaf in explain.leaves(steps) for name in leaf.name.split(" = ")}
        if arguments.parameter not in leaves:
            raise ConfigError(f"no parameter {arguments.parameter!r} took part: expected one of {', '.join(leaves)}")
        show(said, reason(leaves[arguments.parameter], steps))
    elif arguments.step is not None:
        if not 1 <= arguments.step <= len(steps):
            raise ConfigError(f"step is {arguments.step}: expected 1 to {len(steps)}")
        step = steps[arguments.step - 1]
        show(said, step, *([time_tables(step, read)] if is_recurrent(step) else []))
    else:
        show(said, overview(steps))


def time_tables(step: explain.Step, read: Any) -> Any:
    """Returns the time steps of a recurrent layer, beside the tokens that it reads."""
    found, tokens = explain.time_steps(step), read.tokens(step.module)[1]
    return found.tables(tokens if len(tokens) >= len(found.order) else ())
