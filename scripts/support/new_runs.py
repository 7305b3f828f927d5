"""What the command line of a new run means beyond its single options."""

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

from support.console import naming_options
from support.resuming import value_of
from tinylm.errors import ConfigError
from tinylm.train.tasks.settings import Fallback, FallbackSteps, Settings

S = TypeVar("S", bound=Settings)


def new_run(arguments: S, argv: Sequence[str]) -> S:
    """Returns the settings of a new run: with --lr and without --min-lr, min_lr is at most a tenth of lr; without --warmup, a schedule
    that is shorter than the usual warmup has a shorter one, and a line says so.

    Raises ConfigError, naming the option, for what only the first runs were allowed.
    """
    given = vars(arguments)
    if "min_lr" in given and value_of("--lr", argv) is not None and value_of("--min-lr", argv) is None:
        arguments = dataclasses.replace(arguments, min_lr=Fallback(given["min_lr"]))
    if "warmup" in given and given["warmup"] > given["schedule_steps"] and value_of("--warmup", argv) is None:
        arguments = dataclasses.replace(arguments, warmup=FallbackSteps(given["warmup"]))
        usual, now = given["warmup"], vars(arguments)["warmup"]
        print(f"a warmup of {now} steps instead of {usual}, since the schedule has {given['schedule_steps']} (--schedule-steps)")
    try:
        arguments.check_new()
    except ConfigError as error:
        raise ConfigError(naming_options(arguments, str(error))) from error
    return arguments


def gathered(argv: Sequence[str], option: str = "--data") -> list[str]:
    """Returns the command line with the values of an option that is given several times after a single one of it."""
    values: list[str] = []
    others: list[str] = []
    times = 0
    inside = False
    for word in argv:
        name, equals, value = word.partition("=")
        if name.replace("_", "-") == option:
            inside, times = not equals, times + 1
            values += [value] if equals else []
        elif inside and not word.startswith("--"):
            values.append(word)
        else:
            inside = False
            others.append(word)
    return [*others, option, *values] if times > 1 else list(argv)
