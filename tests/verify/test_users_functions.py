"""A user's function, named on the command line as path.py:name, and the samples beside it."""

from pathlib import Path

import numpy as np
import pytest

from tinylm import verify
from tinylm.errors import ConfigError
from tinylm.verify.samples import Sample
from tinylm.verify.users_functions import attribute, load, samples_in

SOURCE = """
from tinylm.verify import Sample
def double(x): return 2 * x
def double_samples(rng):
    yield (rng.standard_normal(2),)
    yield Sample("named", (1.0,), {"k": 2})
    yield (3.0, 4)
def none_samples(rng): return []
def wrong_samples(rng): yield (1,); yield [1]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "mine.py").write_text(SOURCE, encoding="utf-8")
    return tmp_path / "mine.py"


def test_the_function_and_its_samples(path: Path) -> None:
    name, function, module = load(f"{path}:double")
    assert (name, function(4), module.__name__) == ("double", 8, "mine")
    assert function is module.double
    first, second, third = samples_in(module, "double", 7)
    np.testing.assert_array_equal(first.args[0], np.random.default_rng(7).standard_normal(2))
    assert (first.note, first.settings) == ("sample 0", {})
    assert (second.note, second.args, second.settings) == ("named", (1.0,), {"k": 2})
    assert (third.note, third.args) == ("sample 2", (3.0, 4))
    assert isinstance(third, Sample)


def test_what_cannot_be_loaded(path: Path) -> None:
    for target in ("mine.py", f"{path}", f"{path.parent}/other.py:double", f"{path.parent}:double"):
        with pytest.raises(ConfigError, match=r"expected path\.py:name, with a file that exists"):
            load(target)
    with pytest.raises(ConfigError, match=r"mine\.py defines no 'triple'"):
        load(f"{path}:triple")
    _, _, module = load(f"{path}:double")
    with pytest.raises(ConfigError, match="defines no 'triple_samples'"):
        samples_in(module, "triple", 0)
    with pytest.raises(ConfigError, match=r"^none_samples yields nothing$"):
        samples_in(module, "none", 0)
    with pytest.raises(ConfigError, match="wrong_samples: number 1 is a list: expected a tuple of arguments or a Sample"):
        samples_in(module, "wrong", 0)
    assert attribute(module, "double") is module.double
    path.write_text("1 / 0", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.py cannot be imported: ZeroDivisionError: division by zero"):
        load(f"{path}:double")


def test_another_module_that_is_missing_is_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'colours'", name="colours")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ModuleNotFoundError, match="colours"):
        verify.__getattr__("twins_of")


def test_the_public_names() -> None:
    assert dir(verify) == sorted(verify.__all__)
    assert {"gradcheck", "compare", "drift", "twins_of_pretrained"} <= set(dir(verify))
