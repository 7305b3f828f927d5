"""Looks inside a trained model: its backward pass, its attention, its gates, its training."""

from inside.attention import AttentionMaps, attention
from inside.backward import Backward, backward
from inside.gates import GateMaps, gates
from inside.page import LivePage, page
from inside.report import Report, report
from support import console

SUBCOMMANDS = {
    "backward": ("RUN TEXT [--help]", "the gradients, from the loss down; --parameter says why", console.subcommand(Backward, backward)),
    "attention": ("RUN TEXT [--help]", "which other tokens each head looks at", console.subcommand(AttentionMaps, attention)),
    "gates": ("RUN TEXT [--help]", "the gates of a recurrent model, token by token", console.subcommand(GateMaps, gates)),
    "page": ("RUN TEXT [--help]", "the model itself as a page, to type in, look into and change", console.subcommand(LivePage, page)),
    "report": ("RUN [--help]", "the run's curves and settings as one page", console.subcommand(Report, report)),
}


if __name__ == "__main__":
    console.run(lambda: console.run_subcommand(__doc__, SUBCOMMANDS))
