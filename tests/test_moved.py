"""Old import paths: a one-line error names the new path."""

import importlib
import importlib.util
import re

import pytest

import tinylm
from tinylm.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_the_new_path_is_there_and_the_old_one_is_not(old: str) -> None:
    package, _, name = old.rpartition(".")
    with pytest.raises(ImportError, match=f"^{re.escape(old)} is now {re.escape(MOVED[old])}$"):
        importlib.import_module(old)
    with pytest.raises(ImportError, match=f"^{re.escape(old)} is now "):
        exec(f"from {package} import {name}")
    for new in re.findall(r"tinylm(?:\.\w+)+", MOVED[old]):
        owner, _, attribute = new.rpartition(".")
        assert importlib.util.find_spec(new) is not None or hasattr(importlib.import_module(owner), attribute), new


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("import tinylm.backend", ImportError, "array_module is also tinylm.array_module"),
        ("from tinylm.backend import array_module", ImportError, "array_module is also tinylm.array_module"),
        ("tinylm.backend.array_module", AttributeError, "array_module is also tinylm.array_module"),
        ("from tinylm.formats.files import read_json", ImportError, "tinylm.formats is now tinylm.pretrained"),
        ("tinylm.checkpoint(abs, 1)", AttributeError, "tinylm.checkpoint is now tinylm.recompute"),
        ("from tinylm import checkpoint", ImportError, "tinylm.checkpoint is now tinylm.recompute"),
    ],
)
def test_every_way_to_an_old_name(code: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        exec(code, {"tinylm": tinylm})


def test_a_name_that_never_existed() -> None:
    assert not hasattr(tinylm, "nothing")
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        importlib.import_module("tinylm.nothing")
