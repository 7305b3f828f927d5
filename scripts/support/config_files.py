"""--config: settings from a TOML file, or from the config.json of a run, as if they stood at the beginning of the command line."""

import contextlib
import dataclasses
import re
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from support.option_names import meant
from support.resuming import value_of
from tinylm.checks import nearest, shown
from tinylm.errors import CheckpointError, ConfigError, listed
from tinylm.files.json_files import parse_json, read_text
from tinylm.train.tasks.settings import Settings

# What a command is to do this time, which is no setting of a run.
_NO_SETTINGS = ("config", "resume", "accept_new_data", "dry_run", "estimate", "scaling", "distributed")


@dataclass(frozen=True)
class ConfigFile:
    """The settings of a file that the command line leaves as they are, by name: each as words of a command line, and where it stands."""

    words: Mapping[str, Sequence[str]] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)

    def before(self, argv: Sequence[str]) -> list[str]:
        """Returns the settings as a command line, with `argv` after them."""
        return [*(w for words in self.words.values() for w in words), *argv]

    @contextlib.contextmanager
    def placing_errors(self) -> Iterator[None]:
        """Within it, a ConfigError about a setting of the file says where it stands."""
        try:
            yield
        except ConfigError as error:
            message = re.sub(r"^--[a-z0-9-]+: (?=\w)", "", str(error)).replace(" (--help lists all options)", "")
            if place := self.places.get(message.partition(" ")[0]):
                raise ConfigError(f"{place}: {message}") from error
            raise


def config_file(options: type[Any], kind: type[Settings], argv: Sequence[str]) -> ConfigFile:
    """Returns what the file of --config says; an empty one without --config.

    options: the command's record of options; kind: of these, the settings that a config.json stores.
    Raises ConfigError for a setting that is unknown or of another type, with its place in the file, and for a run of another task;
    CheckpointError for a file that cannot be read.
    """
    if (given := value_of("--config", argv)) is None:
        return ConfigFile()
    if value_of("--resume", argv) is not None:
        raise ConfigError("--config and --resume do not go together: a resumed run keeps its own settings")
    path = Path(given) / "config.json" if Path(given).is_dir() else Path(given)
    text = read_text(path).removeprefix("\ufeff")
    is_json = path.suffix == ".json"
    settings = _of_run(path, text, kind) if is_json else _of_toml(path, text)
    words_given = (word.partition("=")[0].replace("_", "-") for word in argv if word.startswith("--"))
    given_too = {word.removeprefix("--").removeprefix("no-") for word in words_given}
    types_of = {f.name: f.type for f in dataclasses.fields(options)}
    words: dict[str, Sequence[str]] = {}
    places: dict[str, str] = {}
    unknown = []
    for key, value in settings.items():
        name, place = key.replace("-", "_"), f"{path}{_line(text, key, is_json)}"
        if isinstance(value, dict):
            raise ConfigError(f"{place}: [{key}] is a table: expected settings by themselves, such as lr = 0.001")
        if name in _NO_SETTINGS:
            raise ConfigError(f"{place}: {name} is no setting of a run: give it on the command line")
        if name in places:
            raise ConfigError(f"{place}: {name} is set twice")
        places[name] = place
        if name not in types_of:
            hint = meant(f"--{key.replace('_', '-')}", [f"--{each.replace('_', '-')}" for each in types_of if each not in _NO_SETTINGS])
            unknown.append(f"{place}: there is no setting {key!r:.60}{hint.replace('--', '').replace('-', '_')}")
        elif problem := _misfit(types_of[name], value):
            raise ConfigError(f"{place}: {name} is {shown(value)}: expected {problem}")
        elif value is not None:
            words[name] = _words(name, value)
    if unknown:
        raise ConfigError(listed(unknown))
    chosen = [name for name in words if name.replace("_", "-").removeprefix("no-") not in given_too]
    return ConfigFile({name: words[name] for name in chosen}, {name: places[name] for name in chosen})


def _of_toml(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError, and numbers of thousands of digits
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _of_run(path: Path, text: str, kind: type[Settings]) -> dict[str, Any]:
    """Returns the settings of a run; those that its version did not have yet with what it did then."""
    try:
        record = parse_json(text)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from error
    train = record.get("train") if isinstance(record, dict) else None
    if not isinstance(train, dict):
        raise ConfigError(f"{path} is not the config.json of a run: it has no record 'train'")
    if (task := record.get("task", "language modeling")) != kind.task:
        raise ConfigError(f"{path} is of a run of another task: {task!s:.40}, expected {kind.task}")
    return {**kind.old_values(train), **train}


def _line(text: str, key: str, is_json: bool) -> str:
    """Returns ", line 3" for the line on which a key stands; "" if it is not found."""
    spelt = re.escape(key)
    pattern = rf'"{spelt}"\s*:' if is_json else rf"""^\s*["']?{spelt}["']?\s*[=.]|^\s*\[+\s*["']?{spelt}"""
    start = text.find('"train"') if is_json else 0
    found = re.compile(pattern, re.MULTILINE).search(text, max(start, 0))
    return "" if found is None else f", line {text.count(chr(10), 0, found.end()) + 1}"


def _misfit(kind: Any, value: Any) -> str:
    """Returns what a setting of this type must be; "" if the value is that."""
    if get_origin(kind) is Annotated:
        return _misfit(get_args(kind)[0], value)
    if get_origin(kind) in (Union, types.UnionType):
        problems = [_misfit(each, value) for each in get_args(kind)]
        return "" if "" in problems else problems[0]
    if get_origin(kind) is Literal:
        choices = [choice for choice in get_args(kind) if isinstance(choice, str)]
        return "" if value in get_args(kind) else f"one of {', '.join(choices)}{nearest(value, choices)}"
    if get_origin(kind) is tuple:
        each = _misfit(get_args(kind)[0], None)
        fits = isinstance(value, list) and not any(_misfit(get_args(kind)[0], one) for one in value)
        return "" if fits else f"a list, each {each}"
    for wanted, taken, what in (
        (bool, (bool,), "true or false"), (int, (int,), "an integer"), (float, (int, float), "a number"), (str, (str,), "text"),
        (Path, (str,), "a path, as text"), (type(None), (type(None),), "nothing"),
    ):  # fmt: skip
        if kind is wanted:
            return "" if type(value) in taken else what
    return "another type"


def _words(name: str, value: Any) -> list[str]:
    """Returns a setting as words of a command line."""
    option = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    return [f"--{option}", *map(str, value)] if isinstance(value, list) else [f"--{option}={value}"]
