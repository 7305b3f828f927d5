"""Looks inside a trained model: why it says what it says, its gradients, its training."""

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
from inside.report import Report, report
from support import console

SUBCOMMANDS = {
    "backward": ("RUN TEXT [--help]", "the gradients, from the loss down; --parameter says why", console.subcommand(Backward, backward)),
    "attention": ("RUN TEXT [--help]", "which other tokens each head looks at", console.subcommand(AttentionMaps, attention)),
    "gates": ("RUN TEXT [--help]", "the gates of a recurrent model, token by token", console.subcommand(GateMaps, gates)),
    "attribute": (
        "RUN TEXT [--help]",
        "which parts of the model, and which tokens, made it say so",
        console.subcommand(Attribute, attribute),
    ),
    "lens": ("RUN TEXT [--help]", "what the model would say after each of its layers", console.subcommand(LogitLens, lens)),
    "ablate": ("RUN TEXT [--help]", "what the loss is without each head, MLP and layer", console.subcommand(Ablate, ablate)),
    "patch": ("RUN TEXT OTHER [--help]", "where the difference between two texts is carried", console.subcommand(Patch, patch)),
    "heads": ("RUN [TEXT] [--help]", "which heads look at the token before, which copy", console.subcommand(Heads, heads)),
    "loss": ("RUN TEXT [--help]", "which tokens it predicts badly, beside an n-gram model", console.subcommand(Losses, loss)),
    "probe": ("RUN [TEXT] [--help]", "what a linear classifier reads off each layer", console.subcommand(LinearProbe, probe)),
    "page": ("RUN TEXT [--help]", "the model itself as a page, to type in, look into and change", console.subcommand(LivePage, page)),
    "report": ("RUN [--help]", "the run's curves and settings as one page", console.subcommand(Report, report)),
}


if __name__ == "__main__":
    console.run(lambda: console.run_subcommand(__doc__, SUBCOMMANDS))
