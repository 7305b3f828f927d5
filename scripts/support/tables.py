"""Where tables are printed."""

import sys

from rich.console import Console


def screen(width: int = 120) -> Console:
    """Returns where tables are printed: as wide as the terminal, or `width` characters in a file or a pipe."""
    return Console(width=None if sys.stdout.isatty() else width, highlight=False)
