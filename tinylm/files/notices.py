"""Lines on stderr about something in a file that is read but not used."""

import functools
import sys

from tinylm.errors import one_line


@functools.lru_cache(256)
def warn_once(line: str) -> None:
    """Prints the line to stderr, once in a process."""
    print(f"warning: {one_line(line)}", file=sys.stderr)
