"""The backward pass on a terminal: the table of its steps, one step in full, why a leaf's gradient is what it is."""

import io

import numpy as np
import pytest
from rich.console import Console

from tinylm import Tensor, explain
from tinylm.explain import terminal
from tinylm.models import GPT, GPTConfig


def leaf(values):
    return Tensor(np.asarray(values, np.float64), requires_grad=True)


def printed(thing):
    console = Console(file=io.StringIO(), width=160)
    console.print(thing)
    return console.file.getvalue()


def test_the_terminal():
    x, y = leaf(3.0), leaf(2.0)
    loss = x * y + x
    walked = list(explain.steps(loss))
    rows = [line.split() for line in printed(terminal.overview(walked)).splitlines()]
    place = f"test_terminal.py:{walked[0].where.rpartition(':')[2]}"
    assert rows[1:] == [
        ["1", "add", place, "()", "9", "1", "a", "1,", "b", "1"],
        ["2", "multiply", place, "()", "6", "1", "a", "2,", "b", "3"],
    ]  # the output's shape and norm, what came in, what is given
    shown = printed(walked[1])
    for text in ("2  multiply", "loss = x * y + x", "a b.  da = dy b, db = dy a.", "contribution 2"):
        assert text in shown, text
    table = [line.strip("│ ").split() for line in shown.splitlines()]
    assert ["output", "()", "6.", "1."] in table
    assert ["a", "()", "3.", "2.", "x"] in table, "the value, the gradient, and the leaf that it goes to"
    assert ["b", "()", "2.", "3.", "y"] in table
    assert terminal.sentence(loss, 2, about="in all") == "loss 9.0000 in all. Its backward pass takes 2 steps."
    shown = printed(terminal.reason(explain.leaves(walked)[0], walked))
    assert "the sum of 2 contributions" in shown
    assert "+1.000" in shown
    assert "from the loss itself" in shown
    assert "from step 1 (add) through its a 1" in shown
    assert "= one contribution" in printed(terminal.reason(explain.leaves(walked)[1], walked))


def test_large_arrays_are_shown_by_their_statistics():
    x = leaf(np.arange(100.0) - 50)
    (step,) = explain.steps(x * 2, np.ones(100))
    shown = printed(step)
    for text in ("(100)", "norm 577, mean -1", "-100 to 98", "norm 289, mean -0.5", "norm 10, mean 1"):
        assert text in shown, text


@pytest.mark.parametrize(
    ("path", "width", "shown"),
    [
        ("transformer.h.0.attn", 20, "transformer.h.0.attn"),
        ("transformer.h.0.attn", 19, "…h.0.attn"),
        ("transformer.h.0.attn", 9, "…h.0.attn"),
        ("transformer.h.0.attn", 8, "…0.attn"),
        ("transformer.h.0.attn", 4, "…ttn"),
        ("", 4, ""),
    ],
)
def test_paths_are_cut_at_their_left(path, width, shown):
    assert terminal.cut_left(path, width) == shown


def test_80_columns_show_the_end_of_module_paths():
    model = GPT(GPTConfig(vocab_size=11, block_size=8, n_layer=1, n_head=2, n_embd=16))
    ids = np.random.default_rng(0).integers(0, 11, (2, 3, 8))
    loss, _ = model.loss(Tensor(ids[0]), Tensor(ids[1]))
    console = Console(file=io.StringIO(), width=80)
    console.print(terminal.overview(explain.steps(loss, model=model)))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("…" in line and ".attn " in line for line in lines)
