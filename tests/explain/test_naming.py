"""Names for what is on the tape: where something was made, without the folders of this machine."""

from pathlib import Path

import pytest

import tinylm
from tinylm import Tensor, explain
from tinylm.explain.naming import short_place

OURS = str(Path(tinylm.__file__).parent)


@pytest.mark.parametrize(
    ("where", "short"),
    [
        (f"{OURS}/nn/layers.py:53", "tinylm/nn/layers.py:53"),
        ("/home/someone/my study/train.py:7", "train.py:7"),
        (r"C:\Users\Some One\train.py:7", "train.py:7"),
        ("<stdin>:1", "<stdin>:1"),
        (f"/home/someone/train.py:7, which led to {OURS}/models/gpt.py:71", "train.py:7, which led to tinylm/models/gpt.py:71"),
    ],
)
def test_places_without_folders(where: str, short: str) -> None:
    assert short_place(where) == short


def test_the_innermost_variable_counts() -> None:
    """Also one of a module; names that begin with an underscore, as a notebook's own, do not."""
    outer = Tensor([1.0, 2.0], requires_grad=True)

    def name_of(_hidden: Tensor, inner: Tensor) -> str:
        (leaf,) = explain.leaves(explain.steps((inner * 2).sum()))
        return leaf.name

    assert name_of(outer, outer) == "inner"
    (leaf,) = explain.leaves(explain.steps((outer * 2).sum()))
    assert leaf.name == "outer"
