"""Direct logit attribution and the two attributions to input tokens: sums that are exact, and models whose answer is known."""

import copy

import numpy as np
import pytest
from activation_models import LENGTHS, made
from copying_gpt import INDUCTION, copying_gpt

from tinylm import Tensor, explain, ops
from tinylm.errors import ConfigError, RangeError, ShapeError
from tinylm.explain.figures import png
from tinylm.models import RNNModel

DRAW = np.random.default_rng(3)


def with_biases(model):
    """Gives every parameter of one dimension, so every bias and the weight of every norm, a value that is not its first one."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data[...] += DRAW.standard_normal(parameter.shape)
    return model


# ---------------------------------------------------------------- which part wrote it


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_the_terms_sum_to_the_logit(name):
    model, (ids,) = made(name)
    with_biases(model)
    logits = model(ids).numpy()[0]
    found = explain.direct_attribution(model, ids.numpy()[0], position=3, token=5)
    assert found.logit == pytest.approx(logits[3, 5], rel=1e-12)
    assert found.sum == pytest.approx(found.logit, rel=1e-10)
    assert abs(found.remainder) < 1e-10
    heads = model.config.n_head
    assert len(found.terms) == (2 if name == "gpt" else 1) + 2 * (heads + 1) + 1
    assert found.heads.shape == (2, heads)
    assert found.terms["layer 1, head 1"] == found.heads[1, 1]
    assert found.terms["layer 0, MLP"] == found.mlps[0]
    likely = explain.direct_attribution(model, ids.numpy()[0])
    assert (likely.position, likely.token) == (5, logits[5].argmax())
    other = explain.direct_attribution(model, ids.numpy()[0], position=-3, token=5, against=2)
    assert other.logit == pytest.approx(logits[3, 5] - logits[3, 2], rel=1e-10)
    assert other.sum == pytest.approx(other.logit, rel=1e-9)


@pytest.mark.parametrize("name", ["gpt", "llama"])
def test_a_term_is_what_the_logit_loses_without_its_part(name):
    """With the final norm's scale held fixed, switching a part's way to the output off lowers the logit by the part's term."""
    model, (ids,) = made(name)
    with_biases(model)
    ids = ids.numpy()[:1]
    found = explain.direct_attribution(model, ids[0], position=4, token=7)
    norm, output = (model.transformer.ln_f if name == "gpt" else model.model.norm), model.lm_head.weight.numpy()[7]
    with explain.cache(model, ["h.*.attn.head_out", "h.*.mlp.out", "h.1.resid_post"]) as seen:
        model(Tensor(ids))
    stream = seen["h.1.resid_post"].numpy()[0, 4]

    def logit(x):
        bias = 0 if getattr(norm, "bias", None) is None else norm.bias.numpy()
        if name == "gpt":
            return ((x - x.mean()) / np.sqrt(stream.var() + norm.eps) * norm.weight.numpy() + bias) @ output
        return x / np.sqrt((stream**2).mean() + norm.eps) * norm.weight.numpy() @ output

    assert logit(stream) == pytest.approx(found.logit, rel=1e-10)
    for layer, head in ((0, 1), (1, 0)):
        part = seen[f"h.{layer}.attn.head_out"].numpy()[0, head, 4]
        assert logit(stream) - logit(stream - part) == pytest.approx(found.heads[layer, head], rel=1e-8)
    assert logit(stream) - logit(stream - seen["h.0.mlp.out"].numpy()[0, 4]) == pytest.approx(found.mlps[0], rel=1e-8)


def test_the_head_that_copies_wrote_the_logit():
    """In a model whose only way to the next token is one head, that head wrote all of its lead over a token that was not read."""
    model = copying_gpt()
    ids = np.array([3, 9, 4, 7, 3])
    found = explain.direct_attribution(model, ids, against=20)
    assert found.token == 9
    assert found.heads[INDUCTION] == pytest.approx(found.logit, rel=1e-6)
    others = [value for name, value in found.terms.items() if name != "layer 1, head 0"]
    np.testing.assert_allclose(others, 0, atol=1e-6 * found.logit)
    switched_off = {"h.1.attn.head_out": lambda parts: parts * np.array([0.0, 1.0]).reshape(2, 1, 1)}
    with explain.replace(model, switched_off):
        assert explain.direct_attribution(model, ids, token=9, against=20).logit == pytest.approx(0, abs=1e-6)


def test_direct_attribution_refuses():
    model, (ids,) = made("gpt")
    for name in ("transformer", "lstm"):
        other, _ = made(name)
        with pytest.raises(ConfigError, match=f"{type(other).__name__} has no stream that is the sum of what its parts wrote"):
            explain.direct_attribution(other, [1, 2])
    with pytest.raises(RangeError, match="position is 6: expected -6 to 5"):
        explain.direct_attribution(model, ids.numpy()[0], position=6)
    for wrong in (ids.numpy(), []):
        with pytest.raises(ShapeError, match=r"expected \(T,\), one text of at least one token"):
            explain.direct_attribution(model, wrong)
    with pytest.raises(RangeError, match="token id 11"):
        explain.direct_attribution(model, ids.numpy()[0], against=11)


# ---------------------------------------------------------------- which token raised it


def scores_of(name, model):
    """Returns (score, tokens by part) of the first text of a model's inputs."""
    _, inputs = made(name)
    ids = inputs[0].numpy()
    ids = ids.T[:1] if name in ("transformer", "rnn", "lstm", "gru") else ids[:1]
    if "translator" in name:
        target = inputs[2].numpy()[:1]

        def score(n):
            return model(Tensor(ids.repeat(n, 0)), np.full(n, 6), Tensor(target.repeat(n, 0)))[:, 2, 5]

        return score, {"encoder": list("abcdef"), "decoder": list("wxyz")}
    if name in ("bag", "lstm classifier", "transformer classifier", "ensemble"):
        return lambda n: model(Tensor(ids.repeat(n, 0)), np.full(n, LENGTHS[0])), list("abcdef")
    return lambda n: model.logits(Tensor(ids.repeat(n, 0)))[:, 4, 5], list("abcdef")


@pytest.mark.parametrize(
    "name",
    ["gpt", "llama", "transformer", "lstm", "gru", "translator", "recurrent translator", "bag", "transformer classifier", "ensemble"],
)
def test_integrated_gradients_sum_to_the_difference(name):
    """To 1e-6 of it, and to the two ends as the model computes them; the ReLUs of some models have corners, where only more points help."""
    model, _ = made(name)
    score, tokens = scores_of(name, model)
    smooth = name in ("gpt", "llama", "lstm", "gru", "recurrent translator", "bag")
    found = explain.input_attribution(model, score, tokens, tolerance=1e-7 if smooth else 1e-3)
    difference = found.score - found.baseline
    assert found.score == pytest.approx(float(score(1).numpy()[0]), rel=1e-10)
    assert abs(found.completeness_error) <= (1e-6 if smooth else 1e-3) * abs(difference)
    assert found.sum == sum(part.integrated.sum() for part in found.parts)
    assert abs(difference) > 1e-6
    if name in ("gpt", "llama", "transformer", "lstm", "gru"):
        assert found.parts[0].integrated[5] == found.parts[0].gradient_x_input[5] == 0  # what comes after the position


def test_the_baseline_is_the_mean_embedding_or_zero():
    model, _ = made("gpt")
    score, tokens = scores_of("gpt", model)
    for baseline, value in (("mean", model.transformer.wte.weight.numpy().mean(0)), ("zero", 0.0)):
        with explain.replace(model, {"embed": value}):
            expected = float(score(1).numpy()[0])
        assert explain.input_attribution(model, score, tokens, baseline=baseline).baseline == pytest.approx(expected, rel=1e-10)


def test_in_a_linear_model_both_are_exact():
    """The score of a bag of words is linear in its embeddings: gradient × input is what each word and pair of neighbours adds."""
    model, _ = made("bag")
    score, tokens = scores_of("bag", model)
    found = explain.input_attribution(model, score, tokens, baseline="zero")
    (part,) = found.parts
    np.testing.assert_allclose(part.integrated, part.gradient_x_input, rtol=1e-10)
    ids = made("bag")[1][0].numpy()[:1]
    rows = model.rows(ids)[0]
    weight = model.decoder.weight.numpy()[0]
    np.testing.assert_allclose(part.integrated, model.encoder.weight.numpy()[rows] @ weight / np.sqrt(11), rtol=1e-10)
    assert part.tokens == ["a", "b", "c", "d", "e", "f", "ab", "bc", "cd", "de", "ef"]
    assert found.steps == 64


def test_a_curve_by_hand():
    """For the score x₁ x₂ and the baseline 0, each token has half of the product by integrated gradients, and all of it by the other."""
    model = RNNModel("rnn", 2, 1, 1, 1).to(dtype=np.float64).eval()
    model.encoder.weight.data[...] = [[2.0], [5.0]]

    def score(n):
        with explain.cache(model, "embed") as seen:
            model.logits(Tensor(np.tile([[0, 1]], (n, 1))))
        return seen["embed"][:, 0, 0] * seen["embed"][:, 1, 0]

    (part,) = explain.input_attribution(model, score, ["a", "b"], baseline="zero").parts
    np.testing.assert_allclose(part.integrated, [5, 5], rtol=1e-12)
    np.testing.assert_allclose(part.gradient_x_input, [10, 10], rtol=1e-12)


def test_a_jump_shows_in_the_completeness_error():
    """A score with a step has no gradient that could sum to it, and the error says so; the path is then cut until no points are left."""
    model, _ = made("gpt")
    score, tokens = scores_of("gpt", model)
    smooth = explain.input_attribution(model, score, tokens)
    level = (smooth.score + smooth.baseline) / 2

    def stepped_score(n):
        y = score(n)
        return y + 10.0 * (y.numpy() > level)

    stepped = explain.input_attribution(model, stepped_score, tokens, steps=96)
    assert abs(stepped.completeness_error) == pytest.approx(10, rel=0.1)
    assert stepped.steps == 96


def test_copies_change_nothing_in_the_model_and_float32_agrees():
    model, _ = made("llama", np.float32)
    before = copy.deepcopy(model.state_dict())
    score, tokens = scores_of("llama", model)
    found = explain.input_attribution(model.train(), score, tokens)
    exact, _ = made("llama")
    expected = explain.input_attribution(exact, scores_of("llama", exact)[0], tokens)
    (exactly,), (nearly,) = expected.parts, found.parts
    np.testing.assert_allclose(nearly.integrated, exactly.integrated, atol=1e-4 * np.abs(exactly.integrated).max())
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_input_attribution_refuses():
    model, _ = made("gpt")
    score, tokens = scores_of("gpt", model)
    with pytest.raises(ShapeError, match=r"the score of 1 copies has shape \(1, 6, 11\): expected \(1,\)"):
        explain.input_attribution(model, lambda n: model(Tensor(np.zeros((n, 6), np.int64))), tokens)
    with pytest.raises(ShapeError, match="there are 2 tokens for 6 embeddings"):
        explain.input_attribution(model, score, ["a", "b"])
    with pytest.raises(ConfigError, match="baseline is 'median'"):
        explain.input_attribution(model, score, tokens, baseline="median")
    with pytest.raises(ConfigError, match="steps"):
        explain.input_attribution(model, score, tokens, steps=0)
    other, _ = made("translator")
    score, tokens = scores_of("translator", other)
    with pytest.raises(ConfigError, match="expected 'encoder' too"):
        explain.input_attribution(other, score, {"decoder": tokens["decoder"]})
    with pytest.raises(ConfigError, match="has no embeddings with a name"):
        explain.input_attribution(other.decoder, lambda n: ops.zeros_like(Tensor(np.zeros(n))), [])


# ---------------------------------------------------------------- shown


def test_shown_shortly_and_drawn():
    model = copying_gpt()
    ids = np.array([3, 9, 4, 7, 3])
    direct = explain.direct_attribution(model, ids)
    inputs = explain.input_attribution(model, lambda n: model(Tensor(np.tile(ids, (n, 1))))[:, -1, 9], list("a\nb a"))
    for found, draw in ((direct, explain.draw_direct_attribution), (inputs, explain.draw_input_attribution)):
        assert len(repr(found)) < 100
        assert png(draw(found)).startswith(b"\x89PNG")
