"""Which architecture a file of another program holds."""

from typing import Any

from tinylm.errors import CheckpointError

_ARCHITECTURES = {"gpt2": "gpt", "llama": "llama"}  # the name in a file -> ours


def architecture(name: Any, where: Any, setting: str) -> str:
    """Returns 'gpt' or 'llama' for the name that a file gives in `setting`. Raises CheckpointError for any other."""
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        raise CheckpointError(f"{where}: {setting} is {name!r:.60}, expected 'gpt2' or 'llama'")
    return _ARCHITECTURES[name]
