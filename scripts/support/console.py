"""How all scripts meet a person: errors as one line, status 2; Ctrl-C without a traceback."""

import contextlib
import io
import itertools
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
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


def command(kind: type[T], function: Callable[[T], None]) -> Callable[[list[str]], None]:
    """What runs `function` on arguments read as a record of that kind: a value for `run_command`."""

    def on(argv: list[str]) -> None:
        prog = f"{Path(sys.argv[0]).name} {sys.argv[1]}"
        function(parse(kind, args=argv, prog=prog, description=kind.__doc__))

    return on


def run_command(commands: Mapping[str, Callable[[list[str]], int | None]], usage: str, expected: str) -> int | None:
    """Runs the command that the script's first argument names on those after it; prints `usage` for --help and for none.
    Errors: ConfigError, with what was expected."""
    name, *argv = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(usage)
        return None
    if name not in commands:
        raise ConfigError(f"command {name!r}: expected {expected} (--help says more)")
    return commands[name](argv)


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
