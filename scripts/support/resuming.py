"""What --resume does to a command line: the run's own settings are its defaults, and most of them cannot change."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tinylm.errors import ConfigError

FREE_ON_RESUME = {
    "steps", "device", "precision", "weights", "log_every", "eval_every", "save_every", "save_minutes", "keep", "patience", "sample_every",
    "checkpoint_activations",
}  # fmt: skip


def value_of(flag: str, argv: Sequence[str]) -> str | None:
    """Returns the last value of a flag on a command line that is not parsed yet; the flag may have underscores for its hyphens."""
    found = None
    for i, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name.replace("_", "-") != flag:
            continue
        if equals:
            found = value
        elif i + 1 < len(argv):
            found = argv[i + 1]
    return found


def refuse_changes(arguments: Any, saved: Mapping[str, Any], free: Collection[str] = ()) -> None:
    """Raises ConfigError if the arguments of a resume differ from the saved settings, those in `free` aside, or name a new folder."""
    for name, value in saved.items():
        if name not in free and getattr(arguments, name) != value:
            flag = f"--{name.replace('_', '-')} {getattr(arguments, name)}"
            raise ConfigError(f"{flag}: the run in {arguments.resume} was made with {value}, which a resume cannot change")
    if arguments.out is not None:
        raise ConfigError("--out and --resume do not go together: a resumed run stays in its folder")


def refuse_without_resume(arguments: Any) -> None:
    """Raises ConfigError for an option that only a resume has."""
    if arguments.accept_new_data and arguments.resume is None:
        raise ConfigError("--accept-new-data needs --resume: a new run takes any data")
