"""How all scripts meet a person: errors as one line, status 2; Ctrl-C without a traceback."""

import contextlib
import io
import itertools
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import tyro

from tinylm.errors import ConfigError, TinylmError

T = TypeVar("T")


def parse(kind: type[T], **settings: Any) -> T:
    """The command line as a record, by tyro.cli. Errors: ConfigError with what tyro says in a box."""
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(kind, **settings)
    except SystemExit:
        if not box.getvalue():  # --help
            raise
    rule = re.compile(r"[\s│╰╯─-]*")
    lines = [line.strip("│ ") for line in box.getvalue().splitlines()[1:]]  # below the title
    lines = list(itertools.dropwhile(rule.fullmatch, lines))
    message = " ".join(itertools.takewhile(lambda line: not rule.fullmatch(line), lines))
    message = re.sub(r"^Error parsing \w+: ", "", message).removesuffix(".")
    raise ConfigError(f"{message} (--help lists all options)")


def run(main: Callable[[], int | None]) -> None:
    """Runs main and exits with its status: 2 and one line on stderr for an error of the user's."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # spells out what the terminal's encoding lacks
    try:
        status = main()
    except TinylmError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        status = 2
    except BrokenPipeError:  # the reader of a stream went away
        sys.stderr.close()
        status = 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
