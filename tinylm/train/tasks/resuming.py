"""Going on with a run: the settings that it keeps, and those that may change."""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tinylm.errors import ConfigError
from tinylm.files.regular_files import exists
from tinylm.train.run_folder import never_started
from tinylm.train.tasks.loading import read_config
from tinylm.train.tasks.settings import Settings

S = TypeVar("S", bound=Settings)
FREE_ON_RESUME = {
    "steps", "device", "precision", "weights", "log_every", "eval_every", "save_every", "save_minutes", "keep", "patience",
    "checkpoint_activations", "sample_every",
}  # fmt: skip


def changed_setting(given: Mapping[str, Any], saved: Mapping[str, Any], free: Collection[str] = ()) -> str | None:
    """Returns the first of the saved settings, those in `free` aside, that is given another value; None if there is none."""
    return next((name for name, value in saved.items() if name not in free and given[name] != value), None)


def goes_on(folder: Path) -> bool:
    """Whether a run with `exist_ok` goes on: the folder holds a run, and not one that was ended before it had saved anything."""
    return exists(folder / "config.json") and not never_started(folder)


def settings_to_go_on(folder: Path, config: S, own: Collection[str] = ()) -> S:
    """Returns the settings of the run in a folder, with those of `config` that a resume may change. own: settings that are the run's
    own whatever `config` says, such as a shape that came with another model.

    Raises ConfigError naming the first other setting that `config` has a different value for; CheckpointError as `read_config` does.
    """
    saved, _ = read_config(folder, type(config))
    given, found = config.to_json(), saved.to_json()
    if name := changed_setting(given, found, {*FREE_ON_RESUME, *own}):
        raise ConfigError(
            f"{name} is {given[name]!r:.60}, and the run in {folder} was made with {found[name]!r:.60}: with exist_ok=True it goes on, and "
            "cannot change that; choose another folder, or delete that one"
        )
    return dataclasses.replace(saved, **{name: value for name, value in given.items() if name in FREE_ON_RESUME})
