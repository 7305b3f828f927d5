"""How every command meets the user: arguments as a record, errors as one line with status 2, Ctrl-C without a traceback."""

import contextlib
import dataclasses
import importlib
import inspect
import io
import itertools
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from support.option_names import meant
from support.wording import in_options
from tinylm.checks import nearest
from tinylm.errors import ConfigError, explanation

T = TypeVar("T")


def program(command: str | None = None) -> str:
    """Returns what the user types to run this command, or the named one: "python scripts/train.py" or "tinylm train"."""
    started = Path(sys.argv[0])
    if started.suffix == ".py":
        return f"python scripts/{command or started.stem}.py"
    launcher, _, this = sys.argv[0].rpartition(" ")  # as tinylm/__main__.py sets it
    return f"{launcher} {command or this}"


def parse(kind: type[T], moved: Mapping[str, str] | None = None, **settings: Any) -> T:
    """Returns the command line as a record; settings are those of tyro.cli, and the description is the record's docstring.

    moved: the new names of options that had others in earlier versions.
    Raises ConfigError with the message that tyro prints in a box, which names options, and the one that was probably meant; for an old
    name, with the new one.
    """
    try:
        import tyro  # here, since the processes of the benchmark do without
    except ModuleNotFoundError as error:
        raise ConfigError("the command line needs tyro, which is not installed: pip install tyro") from error
    for word in settings.get("args", sys.argv[1:]):
        old = word.partition("=")[0].replace("_", "-")
        if moved and old in moved:
            raise ConfigError(f"{old} is now {moved[old]}")
    settings = {"prog": program(), "description": inspect.getdoc(kind), **settings}
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
    misspelt = misspelt_option(kind, settings.get("args", sys.argv[1:]))
    raise ConfigError(f"{misspelt or naming_options(kind, message)} (--help lists all options)")


def options_of(kind: Any) -> dict[str, str]:
    """Returns the options by the name of the setting that each gives."""
    return {f.name: f"--{f.name.replace('_', '-')}" for f in dataclasses.fields(kind)}


def naming_options(kind: Any, message: str) -> str:
    """Returns the message after the option for the setting that it begins with, such as --n-layer for n_layer."""
    option = options_of(kind).get(message.partition(" ")[0])
    return f"{option}: {message}" if option else message


def misspelt_option(kind: Any, argv: Sequence[str]) -> str:
    """Returns a message about the first option that is none, but is probably meant to be another one; "" if there is none."""
    known = [*options_of(kind).values(), "--help"]
    for word in argv:
        option = word.partition("=")[0].replace("_", "-")
        unknown = option.startswith("--") and option not in known and option.replace("--no-", "--", 1) not in known
        if unknown and (similar := meant(option, known)):
            return f"Unrecognized options: {word:.60}{similar}"
    return ""


def subcommand(kind: type[T], function: Callable[[T], int | None]) -> Callable[[list[str]], int | None]:
    """Returns a value for `run_subcommand`: it reads its arguments as a record of that kind and runs `function` on it."""

    def on(argv: list[str]) -> int | None:
        return function(parse(kind, args=argv, prog=f"{program()} {sys.argv[1]}"))

    return on


def run_subcommand(about: str, subcommands: Mapping[str, tuple[str, str, Callable[[list[str]], int | None]]]) -> int | None:
    """Runs the subcommand that the first argument names on those after it; prints a summary for --help and for no arguments.

    subcommands: by name, what its usage line has after the name, one line of explanation, and the function.
    Raises ConfigError for an unknown name.
    """
    name, *argv = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        usages = [f"{program()} {each} {arguments}" for each, (arguments, _, _) in subcommands.items()]
        width = max(map(len, usages))
        lines = [f"{usage:{width}}  {line}" for usage, (_, line, _) in zip(usages, subcommands.values(), strict=True)]
        print(f"{about}\n\nusage: " + "\n       ".join(lines))
        return None
    if name not in subcommands:
        *others, last = map(repr, subcommands)
        raise ConfigError(f"command {name!r:.60}: expected {', '.join(others)} or {last}{nearest(name, subcommands)} (--help says more)")
    return subcommands[name][2](argv)


@contextlib.contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Within it SIGTERM interrupts as Ctrl-C does, so that half-written and temporary files are removed."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def run(main: Callable[[], int | None]) -> None:
    """Runs main and exits with its status: 2, with one line on stderr, for an error of the user's, a file or too little memory."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # spells out what the terminal's encoding lacks
    try:
        with sigterm_as_ctrl_c():
            status = main()
    except BrokenPipeError:  # nobody reads the stream any more
        sys.stderr.close()
        status = 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    except Exception as error:
        if (line := explanation(error)) is None:
            raise
        print(f"error: {in_options(line)}", file=sys.stderr)
        status = 2
    sys.exit(status)


def require_torch(otherwise: str = "") -> Any:
    """Returns the package torch. Raises ConfigError if it is missing, with what else the user can do."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise ConfigError(f"PyTorch is not installed: pip install 'tinylm[test]'{otherwise}") from error
