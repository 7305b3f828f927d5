"""Functions that a class of a lower package offers to its user and a higher package provides.

`GPT.from_pretrained(path)` is a method of the model, and what it does is the business of `tinylm.pretrained`, which knows
files and imports the models. tinylm/__init__.py names each provider as "module:function"; it is imported at its first call.
"""

import importlib
from collections.abc import Callable
from typing import Any

PROVIDERS: dict[str, str] = {}


def provided(name: str) -> Callable[..., Any]:
    """Returns the function that was registered under this name."""
    module, _, function = PROVIDERS[name].partition(":")
    return getattr(importlib.import_module(module), function)
