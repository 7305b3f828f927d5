"""CuPy's names and parameters, from cupy_api.json, and the check of a call against them."""

import functools
import json
from pathlib import Path
from typing import Any

TABLE: dict[str, Any] = json.loads(Path(__file__).with_name("cupy_api.json").read_text(encoding="utf-8"))
VERSION: str = TABLE["version"]
NUMBERS = {  # parameters for which CuPy needs numbers on the host: it waits for a device array, or refuses it
    "M", "N", "axes", "axis", "axis1", "axis2", "destination", "indices_or_sections", "k", "minlength", "newshape",
    "num", "pad_width", "repeats", "reps", "shape", "source", "start", "step", "stop",
}  # fmt: skip


class Parameters:
    """A function's parameters, written "a, axis=, *, dtype="."""

    def __init__(self, text: str) -> None:
        self.positional: list[str] = []
        self.keyword: set[str] = set()
        self.required: set[str] = set()
        self.any_positional = self.any_keyword = False
        self.rest = ""  # the name of the parameter that "*" collects
        only_keyword = False
        for part in filter(None, text.split(", ")):
            name = part.rstrip("=")
            if name == "/":
                self.keyword.clear()
            elif name.startswith("**"):
                self.any_keyword = True
            elif name.startswith("*"):
                only_keyword, self.any_positional, self.rest = True, name != "*", name[1:]
            else:
                if not only_keyword:
                    self.positional.append(name)
                self.keyword.add(name)
                if part == name:
                    self.required.add(name)

        self.known: dict[tuple[Any, ...], tuple[str | None, list[tuple[str, Any]]]] = {}  # what `_plan` has returned

    def refuse(self, args: tuple[Any, ...], named: dict[str, Any]) -> str | None:
        """Returns the reason why the function does not take these arguments; None if it does."""
        form = len(args), *named
        found = self.known.get(form)
        if found is None:
            found = self.known[form] = self._plan(len(args), set(named))
        reason, numbers = found
        for name, key in numbers:
            if _on_device(args[key] if isinstance(key, int) else named[key]):
                return f"argument {name!r} is a device array where CuPy needs numbers of the host"
        return reason

    def _plan(self, count: int, named: set[str]) -> tuple[str | None, list[tuple[str, Any]]]:
        """Returns the reason why the function does not take so many arguments by position and these by name, or None; and which of
        them must be numbers of the host: their names, and where they stand."""
        given = set(self.positional[:count])
        reason = None
        if count > len(self.positional) and not self.any_positional:
            reason = f"{count} positional arguments, at most {len(self.positional)} are taken"
        elif (unknown := named - self.keyword) and not self.any_keyword:
            reason = f"unknown argument {sorted(unknown)[0]!r}"
        elif twice := given & named:
            reason = f"argument {sorted(twice)[0]!r} is given twice"
        elif missing := self.required - given - named:
            reason = f"argument {sorted(missing)[0]!r} is missing"
        if reason is not None:
            return reason, []
        names = [*self.positional, *[self.rest] * count][:count]
        places: list[tuple[str, Any]] = [(name, i) for i, name in enumerate(names)]
        return None, [(name, place) for name, place in [*places, *((n, n) for n in named)] if name in NUMBERS]


def _on_device(value: Any) -> bool:
    """Returns whether x is a device array or contains one."""
    return any(map(_on_device, value)) if isinstance(value, (list, tuple)) else type(value).__module__ == "cupy"


@functools.cache
def kind_of(owner: str, name: str) -> str | None:
    """Returns "function", "ufunc", "class" or "value"; None for a name that CuPy does not have."""
    found = TABLE[owner].get(name)
    return None if found is None else found.split(" ")[0]


@functools.cache
def _parameters(owner: str, name: str) -> Parameters | None:
    head, _, text = TABLE[owner][name].partition(" ")
    if head == "ufunc":
        return Parameters("".join(f"x{i}, " for i in range(int(text))) + "/, out=, *, casting=, dtype=")
    return Parameters(text) if head == "function" and (text or TABLE[owner][name].endswith(" ")) else None


def check_call(owner: str, name: str, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Raises TypeError if CuPy's function does not take these arguments; functions without a known signature take all."""
    parameters = _parameters(owner, name)
    reason = None if parameters is None else parameters.refuse(args, named)
    if reason is not None:
        raise TypeError(f"{owner}.{name}: {reason} (CuPy {VERSION})")


def missing(owner: str, name: str) -> AttributeError:
    """Returns the error for a name that CuPy does not have, or that this stand-in does not offer."""
    if name in TABLE[owner]:
        return AttributeError(f"{owner}.{name} exists in CuPy {VERSION}, but the stand-in does not have it yet")
    return AttributeError(f"{owner} of CuPy {VERSION} has no attribute {name!r}")
