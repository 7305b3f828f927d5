"""Functions that a lower package offers and a higher one provides: `GPT.from_pretrained` is written in `tinylm.pretrained`.

tinylm/__init__.py registers each as "module:function"; the module is imported at the first call.
"""

import importlib
from collections.abc import Callable
from typing import Any

PROVIDERS: dict[str, str] = {}


def provided(name: str) -> Callable[..., Any]:
    """Returns the function that was registered under this name."""
    module, _, function = PROVIDERS[name].partition(":")
    return getattr(importlib.import_module(module), function)
