"""Scores of attention heads: heads set by hand, whose scores are known, and an induction head that a training brings about."""

import io

import numpy as np
import pytest
from activation_models import made
from copying_gpt import CONTEXT, FIRST, INDUCTION, PREVIOUS, SAME, VOCABULARY, copying_gpt
from rich.console import Console

import tinylm
from tinylm import Tensor, explain, ops, optim
from tinylm.errors import ConfigError, ShapeError
from tinylm.explain.figures import png
from tinylm.explain.questions.head_scores import KINDS, targets
from tinylm.models import GPT, GPTConfig, NgramLM


def of_head(found, kind, head):
    return found.scores[kind][[(int(layer), j) for layer, j in found.heads].index(head)]


def test_heads_set_by_hand():
    """Each head has all of its kind's attention; the one that looks at all equal tokens shares it with the present one."""
    found = explain.head_scores(copying_gpt())
    assert found.heads == [("0", 0), ("0", 1), ("1", 0), ("1", 1)]
    for kind, head, value in (("previous", PREVIOUS, 1), ("first", FIRST, 1), ("induction", INDUCTION, 1), ("duplicate", SAME, 0.5)):
        assert of_head(found, kind, head) == pytest.approx(value, abs=1e-6), kind
    for kind, head in (("first", PREVIOUS), ("induction", PREVIOUS), ("previous", FIRST), ("duplicate", INDUCTION), ("induction", SAME)):
        assert of_head(found, kind, head) < 0.05, kind
    assert found.marks() == [KINDS["previous"], KINDS["first"], KINDS["induction"], KINDS["duplicate"]]
    assert found.marks(threshold=0.6)[3] == ""
    assert found.second_loss < 0.1
    assert found.first_loss > np.log(VOCABULARY)
    assert found.verdict == "the model copies"


def test_a_head_that_looks_at_all_alike():
    """With zero weights every head has exactly what the table gives for looking at all tokens alike, and nothing is marked."""
    model = GPT(GPTConfig(11, 12, n_layer=1, n_head=1, n_embd=4)).to(dtype=np.float64)
    model.blocks()[0].attn.c_attn.weight.data[...] = 0
    found = explain.head_scores(model, [1, 2, 1, 3, 2])
    np.testing.assert_allclose([found.scores[kind][0] for kind in KINDS], [found.uniform[kind] for kind in KINDS], rtol=1e-12)
    by_hand = {"previous": (1 / 3 + 1 / 4 + 1 / 5) / 3, "first": (1 / 3 + 1 / 4 + 1 / 5) / 3, "duplicate": (1 / 3 + 1 / 5) / 2}
    by_hand["induction"] = (1 / 3 + 1 / 5) / 2  # at 2 it is position 1, at 4 it is position 2
    for kind, value in by_hand.items():
        assert found.uniform[kind] == pytest.approx(value, rel=1e-12)
    assert set(found.marks()) == {""}
    assert np.isnan(found.second_loss)
    silent = explain.head_scores(model, [1, 2, 3])
    assert np.isnan(silent.uniform["duplicate"])
    assert set(silent.marks()) == {""}


def test_where_each_kind_looks():
    ids = np.array([[5, 7, 5, 5, 7]])
    where = {kind: [np.flatnonzero(row).tolist() for row in np.broadcast_to(marked, (1, 5, 5))[0]] for kind, marked in targets(ids).items()}
    assert where == {
        "previous": [[], [], [1], [2], [3]], "first": [[], [], [0], [0], [0]],
        "duplicate": [[], [], [0], [0, 2], [1]], "induction": [[], [], [1], [1], [2]],
    }  # fmt: skip


def test_the_repeated_tokens():
    ids = explain.repeated_tokens(100, 20, start=[7])
    assert ids.shape == (8, 19)
    np.testing.assert_array_equal(ids, explain.repeated_tokens(100, 20, start=[7]))
    assert (ids != explain.repeated_tokens(100, 20, start=[7], seed=1)).any()
    assert (ids[:, 0] == 7).all()
    for row, length in zip(ids, (9, 8, 7, 6, 5, 4, 3, 9), strict=True):
        np.testing.assert_array_equal(row[-length:], row[-2 * length : -length])
        assert len(set(row[1:].tolist())) == 18 - length
    assert explain.repeated_tokens(1000, None).shape == (8, 64)
    assert explain.repeated_tokens(5, 20).max() < 5


def test_a_head_that_looks_a_fixed_distance_back_is_no_induction_head():
    """Its distance is that of the repetition in one sequence only."""
    model = copying_gpt()
    attention = model.blocks()[0].attn
    positions = VOCABULARY + np.arange(CONTEXT)
    q = attention.c_attn.weight.data[:CONTEXT]
    q[:, positions] = 0
    q[np.arange(CONTEXT - 7), positions[7:]] = 20
    found = explain.head_scores(model)
    assert of_head(found, "induction", PREVIOUS) < 0.4
    assert found.marks()[0] == ""


def test_of_other_models():
    for name in ("llama", "transformer"):
        model, _ = made(name, np.float32)
        found = explain.head_scores(model)
        assert found.scores["first"].shape == ({"llama": 8, "transformer": 4}[name],)
        assert all(np.isfinite(values).all() for values in found.scores.values())


def test_refusals():
    for name in ("lstm", "translator", "transformer classifier"):
        model, _ = made(name)
        with pytest.raises(ConfigError, match=f"{type(model).__name__} has no heads that look back"):
            explain.head_scores(model)
    model, _ = made("gpt")
    with pytest.raises(ShapeError, match="there are 2 tokens: expected at least 3"):
        explain.head_scores(model, [1, 2])
    with pytest.raises(ConfigError, match="the context has 5 tokens: expected at least 6"):
        explain.head_scores(GPT(GPTConfig(11, 5, 1, 1, 4)))
    with pytest.raises(ConfigError):
        explain.head_scores(NgramLM(5, 2))


def test_shown_and_drawn():
    found = explain.head_scores(copying_gpt())
    assert repr(found) == "HeadScores(4 heads, 8 sequences of random tokens read twice, up to 8 of them)"
    assert png(explain.draw_head_scores(found)).startswith(b"\x89PNG")


def test_of_many_heads_the_table_has_those_that_copy():
    """Eight of 60 copy and all rest on the first token otherwise: the table has the eight, and five of the others."""
    induction = np.zeros(60)
    induction[20:28] = 0.9
    scores = {"previous": np.zeros(60), "first": 0.9 - induction, "duplicate": np.zeros(60), "induction": induction}
    heads = [(str(i // 10), i % 10) for i in range(60)]
    found = explain.HeadScores(heads, scores, dict.fromkeys(KINDS, 0.1), np.nan, np.nan, "a text")
    console = Console(file=io.StringIO(), width=80)
    console.print(found)
    shown = console.file.getvalue()
    lines = [line.split() for line in shown.splitlines()]
    assert [line[1] for line in lines if line[0] == "2" and line[-1] == "induction"] == list("01234567")
    assert sum(line[-1] == "first" for line in lines) == 5
    assert "0 previous, 52 first, 0 duplicate, 8 induction" in shown.replace("\n", " ")


# ---------------------------------------------------------------- an induction head that was learned


def trained_to_copy(seed, steps=500):
    """Returns a two-layer GPT without feed-forwards that has learned to go on with a random sequence when it comes again.

    Somewhere in 32 random tokens stand 3 to 8 of them a second time; the loss is that of the repetition but for its first token. The
    heads of layer 0 start with a weak preference for the token before. From other weights so small a model finds, within the time of a
    test, ways of copying that rely on the usual distance.
    """
    tinylm.manual_seed(seed)
    draw = np.random.default_rng(seed)
    model = GPT(GPTConfig(40, 32, n_layer=2, n_head=2, n_embd=64))
    for block in model.blocks():
        for parameter in block.mlp.parameters():
            parameter.data[...] = 0
            parameter.requires_grad = False
    look_back(model, draw)
    matrices = [p for block in model.blocks() for p in block.attn.parameters()]
    others = [p for name, p in model.named_parameters() if p.requires_grad and ".attn." not in name]
    optimizer = optim.Muon([{"params": matrices, "lr": 0.02}, {"params": others, "lr": 0.003, "orthogonal": False}])
    for step in range(steps):
        ids, counts = copies(draw, 96, 40, 32)
        for group, rate in zip(optimizer.param_groups, (0.02, 0.003), strict=True):
            group["lr"] = rate * min(1, step / 20, (steps - step) / (0.3 * steps))
        losses = ops.cross_entropy(model(Tensor(ids[:, :-1])), Tensor(ids[:, 1:]), reduction="none")
        loss = (losses * Tensor(counts)).sum() / counts.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def look_back(model, draw):
    """Sets the queries and keys of layer 0, so that position t prefers t - 1, and makes the positions as long as the tokens."""
    tokens, positions = model.transformer.wte.weight.data, model.transformer.wpe.weight.data
    directions = positions / np.linalg.norm(positions, axis=1, keepdims=True)
    positions[...] = directions * np.linalg.norm(tokens, axis=1).mean()
    weight = model.blocks()[0].attn.c_attn.weight.data.reshape(3, 2, 32, 64)
    for head in range(2):
        plane, _ = np.linalg.qr(draw.standard_normal((64, 32)))
        weight[0, head] = 1.46 * plane.T @ (directions[:-1].T @ directions[1:])
        weight[1, head] = 1.46 * plane.T


def copies(draw, count, vocabulary, context):
    """Returns (ids, 1 where the next token is part of a repetition that has begun)."""
    ids = np.array([draw.permutation(vocabulary)[:context] for _ in range(count)])
    counts = np.zeros((count, context - 1), np.float32)
    for row, marks in zip(ids, counts, strict=True):
        length = draw.integers(3, 9)
        again = draw.integers(length, context - length + 1)
        first = draw.integers(0, again - length + 1)
        row[again : again + length] = row[first : first + length]
        marks[again : again + length - 1] = 1
    return ids, counts


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_training_on_repeated_sequences_makes_induction_heads(seed):
    """`heads` finds them in layer 1, and a head that looks at the token before in layer 0; without either kind nothing is copied."""
    model = trained_to_copy(seed)
    found = explain.head_scores(model)
    marks = found.marks()
    assert KINDS["induction"] in marks[2:]
    assert KINDS["induction"] not in marks[:2]
    assert KINDS["previous"] in marks[:2]
    assert found.verdict == "the model copies"

    def without(layer, heads):
        keep = np.isin(np.arange(2), heads, invert=True).astype(np.float32).reshape(2, 1, 1)
        with explain.replace(model, {f"h.{layer}.attn.head_out": lambda parts: parts * keep}):
            return explain.head_scores(model).second_loss

    copying, looking = ([j for j in range(2) if marks[2 * layer + j] == KINDS[kind]] for layer, kind in ((1, "induction"), (0, "previous")))
    for layer, heads in ((1, copying), (0, looking)):
        assert without(layer, heads) > np.log(40) - 0.5, "the repetition is as unknown as it was"
