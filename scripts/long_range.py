"""Measures how far back language models see: a copy task across noise, gradients, loss by context."""

from reach.context import Context, context
from reach.copying import Copy, copy
from reach.gradients import Gradients, gradients
from support import console

SUBCOMMANDS = {
    "copy": ("[--help]", "a copy task, some minutes of training", console.subcommand(Copy, copy)),
    "gradients": ("[--help]", "what is left of a gradient over a distance, some minutes", console.subcommand(Gradients, gradients)),
    "context": ("RUN ... [--help]", "trained models by the length of their context", console.subcommand(Context, context)),
}


if __name__ == "__main__":
    console.run(lambda: console.run_subcommand(__doc__, SUBCOMMANDS))
