"""Where tinylm keeps what it can make again: compiled kernels, token files."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Returns the folder of that name in $TINYLM_CACHE, else in $XDG_CACHE_HOME/tinylm, else in ~/.cache/tinylm; it need not exist.

    Raises FileNotFoundError for a user without a home.
    """
    if os.environ.get("TINYLM_CACHE"):
        return Path(os.environ["TINYLM_CACHE"]) / name
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tinylm" / name
    except RuntimeError as error:
        raise FileNotFoundError(str(error)) from error
