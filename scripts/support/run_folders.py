"""Where a command writes: in its folder, or in a dry run in one that is removed afterwards."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def folder_or_temporary(folder: Path, dry_run: bool) -> Iterator[Path]:
    """Gives the folder itself, or in a dry run a temporary one."""
    if not dry_run:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="tinylm-") as temporary:
        yield Path(temporary)
