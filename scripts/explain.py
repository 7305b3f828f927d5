"""Looks inside a trained model: why it says what it says, its gradients, its training."""

from collections.abc import Callable
from typing import TypeVar

from inside.ablate import Ablate, ablate
from inside.attention import AttentionMaps, attention
from inside.attribute import Attribute, attribute
from inside.backward import Backward, backward
from inside.gates import GateMaps, gates
from inside.heads import Heads, heads
from inside.lens import LogitLens, lens
from inside.loss import Losses, loss
from inside.page import LivePage, page
from inside.patch import Patch, patch
from inside.probe import LinearProbe, probe
from inside.readings import Reading
from inside.report import Report, report
from support import console

from tinylm.engine.products import products

R = TypeVar("R", bound=Reading)


def reading(kind: type[R], function: Callable[[R], None]) -> Callable[[list[str]], int | None]:
    """Returns the subcommand that runs `function`, with products of the precision that its arguments name."""

    def looking(arguments: R) -> None:
        with products(arguments.precision):
            function(arguments)

    return console.subcommand(kind, looking)


SUBCOMMANDS = {
    "backward": ("RUN TEXT [--help]", "the gradients, from the loss down; --parameter says why", reading(Backward, backward)),
    "attention": ("RUN TEXT [--help]", "which other tokens each head looks at", reading(AttentionMaps, attention)),
    "gates": ("RUN TEXT [--help]", "the gates of a recurrent model, token by token", reading(GateMaps, gates)),
    "attribute": (
        "RUN TEXT [--help]",
        "which parts of the model, and which tokens, made it say so",
        reading(Attribute, attribute),
    ),
    "lens": ("RUN TEXT [--help]", "what the model would say after each of its layers", reading(LogitLens, lens)),
    "ablate": ("RUN TEXT [--help]", "what the loss is without each head, MLP and layer", reading(Ablate, ablate)),
    "patch": ("RUN TEXT OTHER [--help]", "where the difference between two texts is carried", reading(Patch, patch)),
    "heads": ("RUN [TEXT] [--help]", "which heads look at the token before, which copy", reading(Heads, heads)),
    "loss": ("RUN TEXT [--help]", "which tokens it predicts badly, beside an n-gram model", reading(Losses, loss)),
    "probe": ("RUN [TEXT] [--help]", "what a linear classifier reads off each layer", reading(LinearProbe, probe)),
    "page": ("RUN TEXT [--help]", "the model itself as a page, to type in, look into and change", reading(LivePage, page)),
    "report": (
        "RUN [RUN ...] [--help]",
        "a run's curves and settings as one page; several runs side by side",
        console.subcommand(Report, report),
    ),
}


if __name__ == "__main__":
    console.run(lambda: console.run_subcommand(__doc__, SUBCOMMANDS))
