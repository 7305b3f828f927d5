"""The forward pass in Chromium beside tinylm's on the same rounded weights, and what an edit changes."""

import base64
import copy
from typing import Any

import numpy as np
import pytest
from browser import needs_chromium
from live_models import EDITS, IDS, MISTAKES, MODELS, REFERENCES, adapted, computed
from scipy.special import erf

from tinylm import nn
from tinylm.explain.activations import cache, names, replace
from tinylm.explain.live.weights import logits_of, packed, rounded, rounding_shift

TOLERANCE = 1e-5  # JavaScript adds in float64 and stores float32

ERRORS = [  # (what is called, the message)
    ('forward(models.gpt, [])', "the text is empty"),
    ('forward(models.gpt, Array(17).fill(1))', "the text has 17 tokens: expected at most 16, the model's context"),
    ('forward(models.gpt, [11])', "token 11: expected 0 to 10"),
    ('forward(models.gpt, [1], [{name: "h.2.mlp.out", scale: 0}])', 'the model has no activation "h.2.mlp.out"'),
    ('forward(models.gpt, [1], [{name: "h.1.attn.head_out", index: 2, scale: 0}])', 'index 2 of "h.1.attn.head_out": expected 0 to 1'),
    ('forward(models.rnn, [1], [{name: "rnn.1.h", index: 7, scale: 0}])', 'index 7 of "rnn.1.h": expected 0 to 6'),
    ('forward(models.gpt, [1], [{parameter: "wte", scale: 0}])', 'the model has no parameter "wte"'),
    ('lens(models.gpt, forward(models.gpt, [1]), "norm_f", 1)', "position 1: expected 0 to 0"),
    ('lens(models["lstm classifier"], forward(models["lstm classifier"], [1]), "embed", 0)', "a lstm-classifier has no residual stream"),
]  # fmt: skip


SCRIPT = """
  const message = f => { try { return f(); } catch (error) { return {error: error.message}; } };
  const plain = ({shape, data}) => ({shape, data: Array.from(data)});
  const logits = (model, edits) => Array.from(forward(model, data.ids, edits).values.logits.data);
  const models = Object.fromEntries(Object.entries(data.models).map(([name, record]) => [name, loadModel(record)]));
  const runs = Object.fromEntries(Object.entries(models).map(([name, model]) => [name, forward(model, data.ids)]));
  return {
    unknown: Array.from(forward(models["calibrated classifiers"], [0, 0]).values.logits.data),
    halves: Array.from(halves(bytesOf(data.halves))),
    singles: Array.from(singles(bytesOf(data.singles))),
    erf: data.erf.map(erf),
    values: Object.fromEntries(Object.entries(runs).map(([name, run]) =>
      [name, Object.fromEntries(Object.entries(run.values).map(([key, value]) => [key, plain(value)]))])),
    scaled: Object.fromEntries(Object.entries(data.scaled).map(([name, wanted]) => [name, wanted.map(edit =>
      logits(models[name], [edit]))])),
    milliseconds: Object.values(runs).map(run => run.milliseconds),
    exact: logits(loadModel(data.exact)),
    merged: logits(loadModel(data.merged)),
    lens: data.lens.map(([name, activation]) => data.ids.map((_, t) => Array.from(lens(models[name], runs[name], activation, t)))),
    edits: data.edits.map(([name, edits]) => logits(models[name], edits)),
    afterEdits: logits(models.gpt),
    mistakes: data.mistakes.map(([name, settings]) => logits({...models[name], config: {...models[name].config, ...settings}})),
    errors: [__ERRORS__].map(message),
  };
"""

HALVES = np.array([0.0, 1.0, -1.5, 65504.0, -65504.0, 2.0**-14, 2.0**-24, -3 * 2.0**-24, 0.333251953125, 1023 * 2.0**-24], "<f2")
SINGLES = np.array([0.1, -1e30, 3e-40], "<f4")
ERF_AT = [-7.0, -3.1, -1.0, -1e-9, 0.0, 0.5, 2.0, 5.9, 9.0]
LENS = [("gpt", "h.1.resid_post"), ("llama", "h.1.resid_post"), ("lstm", "rnn.1.h"), ("gpt, tanh, biases", "h.0.resid_mid")]
MORE = {"transformer classifier": {"pos_embed"}, "ensemble of language models": {"logits"}}  # names that only the page has
SCALED = {  # every activation of every model
    name: [{"name": activation, "scale": -0.5} | ({} if "logits" in activation else {"index": 0}) for activation in names(model)]
    for name, model in MODELS.items()
}


def base64_of(array: np.ndarray) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Returns what one page in Chromium computed for all tests of this file."""
    data = {
        "ids": IDS, "models": {name: packed(model) for name, model in MODELS.items()}, "exact": packed(MODELS["gpt"], exact=True),
        "merged": packed(adapted()), "edits": [(name, edits) for name, edits, _ in EDITS], "mistakes": MISTAKES, "lens": LENS,
        "scaled": SCALED, "halves": base64_of(HALVES), "singles": base64_of(SINGLES), "erf": ERF_AT,
    }  # fmt: skip
    calls = ",".join([f"() => {call}" for call, _ in ERRORS])
    return computed(SCRIPT.replace("__ERRORS__", calls), data, tmp_path_factory.mktemp("live"))


def shaped(value: dict[str, Any]) -> np.ndarray:
    return np.array(value["data"]).reshape(value["shape"])


def distance(got: Any, expected: np.ndarray) -> float:
    """Returns the largest difference, as a part of the largest number expected, but of at least 0.1."""
    return float(np.abs(np.array(got).reshape(expected.shape) - expected).max() / max(0.1, np.abs(expected).max()))


# ---------------------------------------------------------------- the forward pass


@needs_chromium()
@pytest.mark.parametrize("name", MODELS)
def test_logits(found: Any, name: str) -> None:
    expected = logits_of(REFERENCES[name], IDS)
    assert np.abs(expected).max() > 0.1
    got = shaped(found["values"][name]["logits"])
    assert got.shape == expected.shape
    assert distance(got, expected) < TOLERANCE


@needs_chromium()
@pytest.mark.parametrize("name", MODELS)
def test_every_activation(found: Any, name: str) -> None:
    model, got = REFERENCES[name], found["values"][name]
    with cache(model) as seen:
        logits_of(model, IDS)
    assert set(got) - MORE.get(name, set()) == set(names(model))
    for activation, value in seen.items():
        expected = value.numpy() if activation == "pos_embed" else value.numpy()[0]  # one text
        assert got[activation]["shape"] == list(expected.shape), activation
        assert distance(got[activation]["data"], expected) < TOLERANCE, activation


@needs_chromium()
@pytest.mark.parametrize("name", MODELS)
def test_every_activation_can_be_scaled(found: Any, name: str) -> None:
    """Beside `replace`, which does the same in tinylm: one head where there are heads, else one unit."""
    model, plain = REFERENCES[name], logits_of(REFERENCES[name], IDS)
    moved = 0
    for edit, got in zip(SCALED[name], found["scaled"][name], strict=True):
        with replace(model, {edit["name"]: lambda value, t=0, edit=edit: value * factor(value.shape, edit)}):
            expected = logits_of(model, IDS)
        assert distance(got, expected) < TOLERANCE, edit
        moved += distance(got, plain) > 3 * TOLERANCE
    assert moved > 0.9 * len(SCALED[name])


def factor(shape: tuple[int, ...], edit: dict[str, Any]) -> np.ndarray:
    """Returns what an activation (N, H, ...) or (..., C) is multiplied by."""
    factors = np.ones(shape, np.float32)
    if "index" not in edit:
        factors *= edit["scale"]
    elif len(shape) == 4:
        factors[:, edit["index"]] = edit["scale"]
    else:
        factors[..., edit["index"]] = edit["scale"]
    return factors


@needs_chromium()
def test_the_positions_of_the_classifier(found: Any) -> None:
    expected = MODELS["transformer classifier"].pos_encoder.pe.numpy()[: len(IDS), 0]
    np.testing.assert_allclose(shaped(found["values"]["transformer classifier"]["pos_embed"]), expected, atol=1e-6)


@needs_chromium()
def test_a_text_without_a_known_word_has_the_prior(found: Any) -> None:
    np.testing.assert_allclose(found["unknown"], [np.log(4)], rtol=1e-6)


def test_the_time_is_told(found: Any) -> None:
    assert len(found["milliseconds"]) == len(MODELS)
    assert min(found["milliseconds"]) >= 0


@needs_chromium()
def test_exact_weights(found: Any) -> None:
    expected = logits_of(MODELS["gpt"], IDS)
    assert distance(found["exact"], expected) < TOLERANCE
    assert distance(shaped(found["values"]["gpt"]["logits"]), expected) > 3 * TOLERANCE, "float16 differs"


@needs_chromium()
def test_adapters_are_merged(found: Any) -> None:
    model = adapted()
    assert distance(found["merged"], logits_of(rounded(model), IDS)) < TOLERANCE
    assert any(isinstance(module, nn.LowRankLinear) for module in model.modules()), "the model itself is as it was"
    assert rounding_shift(model, IDS) < 0.1


@needs_chromium()
@pytest.mark.parametrize("case", range(len(MISTAKES)), ids=[f"{name} {settings}" for name, settings in MISTAKES])
def test_a_mistake_is_noticed(found: Any, case: int) -> None:
    assert distance(found["mistakes"][case], logits_of(REFERENCES[MISTAKES[case][0]], IDS)) > 3 * TOLERANCE


@needs_chromium()
@pytest.mark.parametrize("case", range(len(EDITS)), ids=[f"{name} {edits}" for name, edits, _ in EDITS])
def test_edits(found: Any, case: int) -> None:
    name, _, change = EDITS[case]
    state = REFERENCES[name].state_dict()
    change(state)
    model = copy.deepcopy(REFERENCES[name])
    for key, tensor in model.named_parameters():  # by the first name of tied weights
        tensor.data[...] = state[key]
    expected = logits_of(model, IDS)
    assert distance(found["edits"][case], expected) < TOLERANCE
    assert distance(found["edits"][case], logits_of(REFERENCES[name], IDS)) > 3 * TOLERANCE, "the edit does something"


@needs_chromium()
def test_edits_do_not_stay(found: Any) -> None:
    assert found["afterEdits"] == found["values"]["gpt"]["logits"]["data"]


@needs_chromium()
def test_the_lens_at_the_last_layer_is_the_output(found: Any) -> None:
    for (name, _), got in list(zip(LENS, found["lens"], strict=True))[:3]:
        assert distance(got, logits_of(REFERENCES[name], IDS)) < TOLERANCE


@needs_chromium()
def test_the_lens_before_the_last_layer(found: Any) -> None:
    """It is what the model says without its later layers: here all but the first attention is switched off."""
    model = copy.deepcopy(REFERENCES["gpt, tanh, biases"])
    for key, tensor in model.named_parameters():
        if "c_proj" in key and "h.0.attn" not in key:
            tensor.data[...] = 0
    assert distance(found["lens"][3], logits_of(model, IDS)) < TOLERANCE


@needs_chromium()
def test_numbers_and_functions(found: Any) -> None:
    assert found["halves"] == HALVES.astype(float).tolist()
    assert found["singles"] == SINGLES.astype(float).tolist()
    np.testing.assert_allclose(found["erf"], erf(ERF_AT), rtol=1e-14)


@needs_chromium()
@pytest.mark.parametrize("case", range(len(ERRORS)), ids=[call for call, _ in ERRORS])
def test_errors(found: Any, case: int) -> None:
    assert found["errors"][case] == {"error": ERRORS[case][1]}
