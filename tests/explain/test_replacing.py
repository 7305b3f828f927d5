"""tinylm.explain.replace: what other values in the place of activations do to a run, and what they leave behind."""

import contextlib
import copy
import threading

import numpy as np
import pytest
from activation_models import DRAW, MODELS, logits, made

import tinylm
from tinylm import Tensor, explain, nn
from tinylm.errors import ConfigError, ShapeError


def test_a_head_without_output_is_a_head_without_weights():
    model, inputs = made("gpt")
    width = 4
    edited = copy.deepcopy(model)
    edited.transformer.h[0].attn.c_proj.weight.data[:, width : 2 * width] = 0
    expected = logits(edited, inputs).numpy()
    keep = np.array([1.0, 0.0]).reshape(2, 1, 1)
    with explain.replace(model, {"h.0.attn.head_out": lambda parts: parts * keep}):
        np.testing.assert_allclose(logits(model, inputs).numpy(), expected, rtol=1e-10)
    with explain.replace(model, {"h.0.attn.z": lambda z: z * keep}):
        np.testing.assert_allclose(logits(model, inputs).numpy(), expected, rtol=1e-10)
    assert not np.allclose(logits(model, inputs).numpy(), expected)


def test_values_of_another_run_give_its_output():
    """With the stream of another text from some layer on, the output is that of the other text."""
    for name, key in (("gpt", "h.1.resid_pre"), ("transformer", "h.0.resid_post"), ("rnn", "rnn.1.h"), ("llama", "norm_f")):
        model, (x,) = made(name)
        other = Tensor((x.numpy() + 1) % 11)
        with explain.cache(model, key) as seen:
            expected = logits(model, (other,)).numpy()
        with explain.replace(model, {key: seen[key].numpy()}):
            np.testing.assert_allclose(logits(model, (x,)).numpy(), expected, rtol=1e-10)


def test_a_state_is_what_the_next_step_starts_from():
    model, inputs = made("lstm")
    with explain.replace(model, {"rnn.0.c": lambda c, t: c * 0 if t == 2 else c}), explain.cache(model, ["rnn.0.*"]) as seen:
        logits(model, inputs)
    c, i, g = (seen[f"rnn.0.{name}"].numpy() for name in ("c", "input", "candidate"))
    assert (c[:, 2] == 0).all()
    assert (seen["rnn.0.h"].numpy()[:, 2] == 0).all()
    np.testing.assert_allclose(c[:, 3], (i * g)[:, 3], rtol=1e-10)


def test_what_is_given_for_all_steps_is_broadcast_to_them():
    """What is given for a state has its shape (N, T, H) or broadcasts to it, also where N = T and (T, H) could be read as (N, H)."""
    model, _ = made("lstm")
    ids = Tensor(np.arange(9).reshape(3, 3))  # T = N = 3
    for shape in ((3, 3, 7), (1, 3, 7), (3, 1, 7), (3, 7), (7,), ()):
        given = DRAW.standard_normal(shape)
        for value in (given, given.tolist()):
            with explain.replace(model, {"rnn.0.h": value}), explain.cache(model, "rnn.0.h") as seen:
                logits(model, (ids,))
            np.testing.assert_array_equal(seen["rnn.0.h"].numpy(), np.broadcast_to(given, (3, 3, 7)))
    for steps in (2, 4):
        with (
            pytest.raises(ShapeError, match=rf"rnn.0.h has shape \(3, {steps}, 7\): expected \(3, 3, 7\)"),
            explain.replace(model, {"rnn.0.h": np.zeros((3, steps, 7))}),
        ):
            logits(model, (ids,))


@pytest.mark.parametrize(("name", "key"), [("gpt", "h.0.mlp.out"), ("lstm", "rnn.0.c"), ("lstm classifier", "rnn.1.reverse.h")])
def test_a_cache_sees_what_the_contexts_around_it_made(name, key):
    """A cache keeps the activation as those contexts left it that were entered before; what comes later is seen by later ones only."""
    model, inputs = made(name)
    with explain.cache(model, key) as plain:
        logits(model, inputs)
    with explain.cache(model, key) as before, explain.replace(model, {key: 0.5}), explain.cache(model, key) as after:
        logits(model, inputs)
    end = np.isnan(plain[key].numpy())
    step = (slice(None), slice(-1, None) if "reverse" in key else slice(1))  # the one before which nothing was replaced
    np.testing.assert_array_equal(before[key].numpy()[step], plain[key].numpy()[step])
    assert not np.any(before[key].numpy() == 0.5)
    np.testing.assert_array_equal(after[key].numpy(), np.where(end, np.nan, 0.5))


def test_arguments_may_be_named():
    model, (source, lengths, target) = made("translator")
    plain = model(source, lengths, target).numpy()
    with explain.cache(model) as seen:
        np.testing.assert_allclose(model(source=source, source_lengths=lengths, target_in=target).numpy(), plain, rtol=1e-10)
    np.testing.assert_allclose(seen["logits"].numpy(), plain, rtol=1e-10)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True).eval()
    with explain.cache(layer) as seen, pytest.raises(TypeError, match="argument"):
        layer(other=source)
    x = Tensor(DRAW.standard_normal((1, 3, 8)).astype(np.float32))
    with explain.cache(layer, "resid_pre") as seen:
        layer(src=x)
    np.testing.assert_array_equal(seen["resid_pre"].numpy(), x.numpy())


def test_a_context_counts_for_its_own_thread():
    """Two threads that look into one model at the same time each see their own passes, and so does one that does not look."""
    model, (ids,) = made("lstm")
    texts = [Tensor((ids.numpy() + i) % 11) for i in range(3)]
    plain = logits(model, (texts[0],)).numpy()
    entered, found, errors = threading.Barrier(3, timeout=20), {}, []

    def look(i):
        try:
            with explain.cache(model, "rnn.1.h" if i else []) as kept, explain.replace(model, {"logits": float(i)} if i else {}):
                for _ in range(5):
                    entered.wait()
                    found[i] = logits(model, (texts[i],)).numpy(), dict(kept)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=look, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    np.testing.assert_array_equal(found[0][0], plain)
    for i in (1, 2):
        assert (found[i][0] == i).all()
        with explain.cache(model, "rnn.1.h") as alone:
            logits(model, (texts[i],))
        np.testing.assert_array_equal(found[i][1]["rnn.1.h"].numpy(), alone["rnn.1.h"].numpy())
    assert all("forward" not in vars(module) for module in model.modules())


def test_a_module_at_two_paths_has_the_names_of_the_first():
    model, inputs = made("gpt")
    alone = copy.deepcopy(model)
    alone.transformer.h = nn.ModuleList([alone.transformer.h[0], alone.transformer.h[0]])
    assert not any(name.startswith("h.1.") for name in explain.names(alone))
    with explain.replace(alone, {"h.*.mlp.out": 0.0, "h.*.attn.out": 0.0}), explain.cache(alone, ["embed", "pos_embed", "norm_f"]) as seen:
        logits(alone, inputs)
    stream = Tensor(seen["embed"].numpy() + seen["pos_embed"].numpy())
    np.testing.assert_allclose(seen["norm_f"].numpy(), alone.transformer.ln_f(stream).numpy(), rtol=1e-10)


def test_contexts_can_be_nested_and_end_with_an_error():
    model, inputs = made("gpt")
    plain = logits(model, inputs).numpy()
    with explain.cache(model, "h.0.mlp.out") as outer, explain.replace(model, {"h.0.mlp.out": lambda v: v * 2}):
        with explain.cache(model, "h.0.mlp.out") as inner, explain.replace(model, {"h.0.mlp.out": 0.0}):
            last = logits(model, inputs).numpy()
        np.testing.assert_array_equal(inner["h.0.mlp.out"].numpy(), 2 * outer["h.0.mlp.out"].numpy())
        with explain.replace(model, {"h.0.mlp.out": lambda v: v * 0}):
            np.testing.assert_array_equal(logits(model, inputs).numpy(), last)
    with pytest.raises(ZeroDivisionError), explain.replace(model, {"h.*.mlp.out": lambda v: v / (1 // 0)}):
        logits(model, inputs)
    assert np.array_equal(logits(model, inputs).numpy(), plain)
    assert all("forward" not in vars(module) for module in model.modules())


def test_the_gradient_goes_through():
    """The gradient with respect to a cached activation is that with respect to a leaf put in its place, and that of differences."""
    for name, key in (
        ("gpt", "h.1.resid_pre"),
        ("llama", "h.0.attn.pattern"),
        ("transformer", "h.0.mlp.hidden"),
        ("gpt", "h.0.attn.head_out"),
    ):
        model, inputs = made(name)
        with explain.cache(model, key) as seen:
            y = logits(model, inputs)
        cotangent = DRAW.standard_normal(y.shape)
        (gradient,) = tinylm.grad(y, [seen[key]], Tensor(cotangent))
        leaf = Tensor(seen[key].numpy().copy(), requires_grad=True)
        with explain.replace(model, {key: leaf}):
            (through,) = tinylm.grad(logits(model, inputs), [leaf], Tensor(cotangent))
        np.testing.assert_allclose(through.numpy(), gradient.numpy(), rtol=1e-9, atol=1e-13)
        direction, step = DRAW.standard_normal(leaf.shape), 1e-5
        ends = []
        for sign in (1, -1):
            with explain.replace(model, {key: leaf.numpy() + sign * step * direction}):
                ends.append((logits(model, inputs).numpy() * cotangent).sum())
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx((gradient.numpy() * direction).sum(), rel=1e-6)


def test_the_parameters_gradients_are_those_of_the_plain_run():
    for name in MODELS:
        model, inputs = made(name)
        cotangent = Tensor(DRAW.standard_normal(logits(model, inputs).shape))
        logits(model, inputs).backward(cotangent)
        plain = {path: p.grad for path, p in model.named_parameters()}
        model.zero_grad()
        with explain.cache(model):
            logits(model, inputs).backward(cotangent)
        for path, p in model.named_parameters():
            np.testing.assert_allclose(p.grad, plain[path], rtol=1e-8, atol=1e-12, err_msg=f"{name} {path}")


def test_dropout_draws_what_the_plain_run_draws():
    for name in ("gpt", "llama", "transformer", "translator", "lstm classifier"):
        tinylm.manual_seed(1)
        model, inputs = MODELS[name]()
        model.to(dtype=np.float64)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.3
            elif hasattr(module, "dropout") and isinstance(module.dropout, float):
                module.dropout = 0.3
        results = []
        for wanted in ([], explain.names(model)):
            tinylm.manual_seed(7)
            with explain.cache(model, wanted):
                results.append(logits(model.train(), inputs).numpy())
        np.testing.assert_allclose(results[1], results[0], rtol=1e-9, atol=1e-13, err_msg=name)


def test_decoding_with_caches_and_recomputation():
    """Decoding step by step under `replace` agrees with whole forward passes; recomputed layers are stored instead, in the context."""
    model, _ = made("gpt", np.float32)
    with explain.replace(model, {"h.1.attn.head_out": lambda parts: parts * 0.0, "h.0.attn.pattern": lambda p: p}):
        ids = [1, 2]
        for _ in range(5):
            ids = [*ids, int(logits(model, (Tensor(np.array([ids])),)).numpy()[0, -1].argmax())]
        state, y = None, None
        for i, one in enumerate(ids[:-1]):
            y, state = model.advance(Tensor(np.array([[one]])), state)
            if i >= 1:
                assert int(y.numpy()[0, -1].argmax()) == ids[i + 1]
    model, inputs = made("gpt")
    model.checkpoint_activations = True
    with explain.replace(model.train(), {"h.0.mlp.out": lambda v: v * 3}):
        y = logits(model, inputs)
    cotangent = Tensor(DRAW.standard_normal(y.shape))
    y.backward(cotangent)
    stored, model.checkpoint_activations = model.transformer.wpe.weight.grad.copy(), False
    model.zero_grad()
    with explain.replace(model, {"h.0.mlp.out": lambda v: v * 3}):
        logits(model, inputs).backward(cotangent)
    np.testing.assert_array_equal(model.transformer.wpe.weight.grad, stored)
    model.checkpoint_activations = True
    with contextlib.suppress(ZeroDivisionError), explain.cache(model):
        assert model.checkpoint_activations is False
        raise ZeroDivisionError
    assert model.checkpoint_activations is True


def test_the_end_of_a_text_stays_its_end():
    """What is put in the place of a shorter text's states beyond its length changes neither output nor gradients."""
    model, inputs = made("lstm classifier")
    plain = logits(model, inputs).numpy()
    with explain.cache(model, "rnn.*") as seen:
        logits(model, inputs)
    with explain.replace(model, {name: value.numpy() for name, value in seen.items()}):
        y = logits(model, inputs)
    np.testing.assert_allclose(y.numpy(), plain, rtol=1e-10)
    y.backward(Tensor(DRAW.standard_normal(y.shape)))
    assert all(np.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_a_forward_of_the_modules_own_comes_back():
    model, inputs = made("gpt")
    own = model.lm_head.forward = lambda x: nn.Linear.forward(model.lm_head, x) * 2
    doubled = logits(model, inputs).numpy()
    with explain.cache(model, "logits") as seen:
        logits(model, inputs)
    np.testing.assert_array_equal(seen["logits"].numpy(), doubled)
    assert vars(model.lm_head)["forward"] is own


def test_errors():
    model, inputs = made("gpt")
    for call in (lambda: explain.cache(model, "h.0.attn.patern"), lambda: explain.replace(model, {"h.0.attn.patern": 0})):
        with (
            pytest.raises(ConfigError, match=r"GPT has no activation 'h.0.attn.patern': expected one of 36, such as h.0.attn.pattern"),
            call(),
        ):
            pass
    with pytest.raises(ConfigError, match="has no activations with names"), explain.cache(nn.Linear(2, 2)):
        pass
    with (
        pytest.raises(ShapeError, match=r"h.0.mlp.out has shape \(3,\): expected \(2, 6, 8\)"),
        explain.replace(model, {"h.0.mlp.out": np.ones(3)}),
    ):
        logits(model, inputs)
    with pytest.raises(ShapeError, match=r"has shape \(5, 2, 6, 8\)"), explain.replace(model, {"h.0.mlp.out": np.ones((5, 2, 6, 8))}):
        logits(model, inputs)
    for value in (None, "abc", 1j, [[1.0], [1.0, 2.0]], object()):
        for given in (value, lambda v, value=value: value):
            with (
                pytest.raises(ConfigError, match=r"the replacement of h.0.mlp.out is .*: expected a tensor, an array, a number, or"),
                explain.replace(model, {"h.0.mlp.out": given}),
            ):
                logits(model, inputs)
    with pytest.raises(ConfigError, match="got int: expected a model"):
        explain.names(3)
    with explain.cache(model, "logits") as seen:
        with pytest.raises(ConfigError, match="no forward pass has run"):
            seen["logits"]
        logits(model, inputs)
    with pytest.raises(ConfigError, match="no activation 'embed' was kept: there are logits"):
        seen["embed"]
    assert repr(seen) == "Activations(logits (2, 6, 11))"
