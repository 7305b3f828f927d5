"""In a notebook or at the prompt no object shows more than it must: its `repr` is short, its HTML bounded and well-formed."""

import base64
import re
import struct
import xml.etree.ElementTree as ET
import zlib

import numpy as np
import pytest

import tinylm
from tinylm import Tensor, explain, verify
from tinylm.engine.array_summaries import block, cells, short_html
from tinylm.models import GPT, GPTConfig, RNNModel
from tinylm.verify.reports import Drift, Row

PROMPT, NOTEBOOK = 15_000, 60_000  # characters that a result may show; a list of many results included


def objects():
    """Yields (what it is, the object) of all that explain, verify and the profiler return for a default GPT, and an LSTM's layers."""
    model = GPT(GPTConfig())
    ids = Tensor(np.random.default_rng(0).integers(0, 65, (1, 65)))
    with tinylm.profile() as profile:
        loss, _ = model.loss(ids[:, :-1], ids[:, 1:])
    yield "profile", profile
    yield "profile rows", profile.rows
    steps = list(explain.steps(loss, model=model))
    leaves = explain.leaves(steps)
    yield from [("steps", steps), ("leaves", leaves), ("record", explain.backward_record(loss, model=model))]
    for step in steps:
        yield from [(repr(step), step), ("received", step.received), ("node", step.node), ("rows", step.rows()[0][3])]
    for leaf in leaves:
        yield from [(leaf.name, leaf), ("parts", leaf.parts), ("tensor", leaf.tensor)]
    yield "attention", explain.attention_weights(model, ids[:, :-1])
    yield "one layer", explain.attention_weights(model, ids[:, :-1])[0]
    with explain.cache(model, explain.names(model)) as seen:
        model(ids[:, :-1])
    yield from [("activations", seen), ("names", explain.names(model)), *seen.items()]
    recurrent = RNNModel("lstm", 65, 64, 64, 2)
    loss, _ = recurrent.loss(ids[:, :-1], ids[:, 1:])
    yield "gates", explain.gate_values(recurrent, ids[:, :-1])
    yield "gates of a layer", explain.gate_values(recurrent, ids[:, :-1])[0]
    yield "time steps", explain.time_steps(next(step for step in explain.steps(loss, model=recurrent) if step.op == "lstm"))
    yield "report", verify.gradcheck(tinylm.softmax, np.random.default_rng(0).standard_normal((4, 5)), thorough=True)
    rows = tuple(Row(f"transformer.h.{i}.mlp.c_proj.weight", 0.1 * i, "worst at [0, 1]" * 20, "a factor of 2" * 20) for i in range(100))
    yield "large report", verify.Report("GPT", 1e-6, rows, ("a remark",) * 50, ((1e-3, 1e-9),) * 20)
    yield "drift", Drift("GPT", *([0.123456789] * 1000 for _ in range(4)))
    yield from answers(model, ids.numpy()[0, :9])
    yield "samples", list(verify.samples_of("lstm"))
    yield "four axes", Tensor(np.random.default_rng(0).standard_normal((8, 8, 8, 8)))
    yield "seven axes", Tensor(np.random.default_rng(0).standard_normal((6,) * 7))


def answers(model, ids):
    """Yields (what it is, the object) of the answers to questions about a text of 9 tokens, and about a long one."""
    yield from [("lens", explain.lens(model, ids)), ("ablation", explain.ablate(model, ids)), ("heads", explain.head_scores(model))]
    yield "patching", explain.patch(model, ids, ids[::-1].copy())
    yield "parts of the logit", explain.direct_attribution(model, ids)
    copies = lambda n: model(Tensor(np.repeat(ids[None], n, 0)))[:, -1, 3]  # noqa: E731
    yield "tokens of the logit", explain.input_attribution(model, copies, tokens=list('<b>&\n"]xx'), steps=64)
    yield "losses", explain.TextLosses(["<&>"] * 3000, 0, np.linspace(0, 9, 3000), None)
    yield "long input", explain.InputAttribution([explain.InputTokens("", ["<"] * 3000, *np.ones((2, 3000)))], 1, 0, 64)


def test_an_answer_is_shown_as_its_table():
    found = explain.TextLosses(["<", "b", "r"], 0, np.array([0.5, 2.0, 1.0]), None)
    shown = ET.fromstring(found._repr_html_())
    text = "".join(shown.itertext())
    assert [line.split() for line in text.splitlines()[2:5]] == [
        ["1", "'<'", "'b'", "2.000"],
        ["2", "'<b'", "'r'", "1.000"],
        ["0", "''", "'<'", "0.500"],
    ]
    long = explain.InputAttribution([explain.InputTokens("", ["x"] * 3000, *np.ones((2, 3000)))], 1, 0, 64)._repr_html_()
    assert "more lines: rich.print shows all" in long


def test_nothing_shows_too_much():
    seen = 0
    for name, thing in objects():
        assert len(repr(thing)) < PROMPT, name
        if not isinstance(thing, (list, tuple, dict)) and type(thing).__module__.startswith("tinylm.explain"):
            assert len(repr(thing)) < 400, name
        if hasattr(thing, "_repr_html_"):
            shown = thing._repr_html_()
            assert len(shown) < NOTEBOOK, name
            ET.fromstring(re.sub(r"<(img|br)([^>]*)>", r"<\1\2/>", shown))
            seen += 1
    assert seen > 150


def pixels(shown):
    """Returns the pixels (height, width, 4) of the PNG in an HTML text."""
    png = base64.b64decode(re.search(r"base64,([^\"]+)", shown)[1])
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    at, data = 8, b""
    while at < len(png):
        (size,) = struct.unpack(">I", png[at : at + 4])
        kind, content = png[at + 4 : at + 8], png[at + 8 : at + 8 + size]
        assert struct.unpack(">I", png[at + 8 + size : at + 12 + size]) == (zlib.crc32(kind + content),)
        data += content if kind == b"IDAT" else b""
        at += 12 + size
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, 1 + 4 * width)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 4)


def test_a_heat_map_for_notebooks():
    array = np.zeros((3, 1, 10))
    array[0, 0, :3] = 4.0, -4.0, 1.0
    array[2, 0, 9] = np.nan
    found = pixels(short_html(array, "array"))
    assert found.shape == (3, 10, 4)
    assert found[0, 0].tolist() == [216, 92, 32, 255]
    assert found[0, 1].tolist() == [56, 120, 216, 255]
    assert found[0, 2, 3] == 128, "√(1/4) is a half"
    assert found[2, 9].tolist() == [0, 0, 0, 255]
    assert found[1, :, 3].tolist() == [0] * 10


def test_cells_of_large_arrays():
    """The element furthest from 0 of each block; the mean if none is negative; NaN wins; what is left over has a cell of its own."""
    signed = np.zeros((2, 33, 65))
    signed[0, 0, :2] = 1.0, -3.0
    signed[1, 32, 64] = 5.0
    assert block(signed) == (3, 2)
    found = cells(signed)
    assert found.shape == (22, 33)
    assert (found[0, 0], found[-1, -1], np.abs(found).sum()) == (-3.0, 5.0, 8.0)
    counted = cells(np.abs(signed))
    assert (counted[0, 0], counted[-1, -1]) == (pytest.approx(4 / 6), pytest.approx(5 / 3)), "means of what there is"
    signed[0, 0, 0] = np.nan
    assert np.isnan(cells(signed)[0, 0])
    assert cells(np.zeros((0, 3))).shape == (0, 1)
    assert cells(np.arange(3)).tolist() == [[0.0, 1.0, 2.0]]
    assert cells(np.array(2.0)).tolist() == [[2.0]]
