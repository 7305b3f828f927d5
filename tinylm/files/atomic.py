"""Files that are there whole or not at all, whatever ends the process or the power."""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tinylm.errors import CheckpointError

PARTIAL = ".partial"  # how the names of temporary files end


def write_atomically(path: Path, *parts: bytes | memoryview) -> None:
    """Puts the bytes, part after part, at path, or leaves what was there. Errors: CheckpointError (full disk, no permission)."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        temporary = None
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)  # so that the new name survives a crash too
        finally:
            os.close(directory)
    except OSError as error:
        raise CheckpointError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_json(path: Path, record: Any) -> None:
    """A JSON file, indented, written whole or not at all."""
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_atomically(path, text.encode("utf-8", "backslashreplace"))  # an undecodable path becomes a \u escape, which is JSON
