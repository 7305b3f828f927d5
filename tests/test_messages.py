"""Messages that a learner meets. message_table.txt has the mistake, what PyTorch 2.13 says of it, and the words that ours must have.

The PyTorch text is that of the same mistake in its own spelling, as PyTorch 2.13 printed it; "" where it has no such
mistake: it goes on, or it is its own name.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, nn, optim
from tinylm.models import GPT, GPTConfig


def read_table():
    """Returns (mistake, PyTorch's text, words) for each row."""
    rows = []
    for row in (Path(__file__).parent / "message_table.txt").read_text(encoding="utf-8").strip().split("\n\n"):
        *code, torch, words = row.split("\n")
        assert torch.startswith("torch |")
        assert words.startswith("words |")
        rows.append(("\n".join(line[4:] for line in code), torch[8:], tuple(words[8:].split(" | "))))
    return rows


TABLE = read_table()


@tinylm.op
def without_vjp(x, /):
    return x * x


@tinylm.op
def numpys_own(x, /):
    return np.exp(x), lambda dy: (dy * np.exp(x),)


def ones(*shape):
    return Tensor(np.ones(shape, np.float32))


NAMES: dict[str, Any] = {
    **{"tinylm": tinylm, "np": np, "nn": nn, "optim": optim, "Tensor": Tensor, "GPT": GPT, "GPTConfig": GPTConfig, "ones": ones},
    **{"without_vjp": without_vjp, "numpys_own": numpys_own},
}


def message(mistake):
    """Returns what the mistake raises, with the error that led to it where NumPy puts its own in front."""
    with pytest.raises(Exception) as caught:
        exec(mistake, {**NAMES, "leaf": Tensor(np.ones(3, np.float32), requires_grad=True)})
    chain = [caught.value, *([caught.value.__cause__] if isinstance(caught.value.__cause__, tinylm.TinylmError) else [])]
    return " / ".join(map(str, chain))


@pytest.mark.parametrize(("mistake", "torch", "words"), TABLE, ids=[row[0] for row in TABLE])
def test_a_message_has_the_words_that_it_must_have(mistake, torch, words):
    text = message(mistake)
    assert len(text) <= 500
    for word in words:
        assert word in text, text
    assert text != torch


def test_the_table_is_as_long_as_it_says():
    assert len(TABLE) >= 40
    assert len({row[0] for row in TABLE}) == len(TABLE)


def test_the_errors_are_those_that_numpy_users_catch():
    for mistake, kinds in (
        ("ones(2, 3) @ ones(4, 5)", (ValueError, tinylm.TinylmError)),
        ("ones(2, 3).sum(5)", (IndexError, ValueError, tinylm.TinylmError)),
        ("ones(2, 3)[5]", (IndexError, tinylm.TinylmError)),
        ("ones(2, 3).sum(dim=1)", (TypeError,)),
        ("ones(3).view(3)", (AttributeError,)),
    ):
        for kind in kinds:
            with pytest.raises(kind):
                exec(mistake, dict(NAMES))


def test_an_error_of_a_users_body_names_the_op():
    @tinylm.op
    def picky(x, weight, /):
        if len(x) == 2:
            raise ValueError("too few")
        return x + weight, lambda dy: (dy, dy)

    with pytest.raises(ValueError, match=r"^picky: x \(3,\) and weight \(4,\): cannot be broadcast"):
        picky(ones(3), ones(4))
    with pytest.raises(ValueError, match=r"^too few$") as caught:
        picky(ones(2), ones(4))
    assert type(caught.value) is ValueError, "an error that says nothing of shapes stays what it is"
