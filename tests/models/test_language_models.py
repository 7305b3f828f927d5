"""What every language model must do: give a distribution, look back only, and generate the same text whichever way tokens are fed."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinylm
from tinylm import Tensor
from tinylm.decode import Sampling, Stepper, generate, generate_batch, token_log_probabilities
from tinylm.engine.random_keys import default_generator
from tinylm.errors import RangeError
from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig, NgramLM, RNNModel, TransformerModel
from tinylm.nn import KeyValueCache

BLOCK = 8  # of the Transformers
FAMILIES = ["gpt", "llama", "transformer", "rnn-tanh", "rnn-relu", "rnn-sigmoid", "lstm", "gru", "ngram"]
families = pytest.mark.parametrize("family", FAMILIES)
transformers = pytest.mark.parametrize("family", ["gpt", "llama", "transformer"])


def make(family, vocab_size=5, dtype="float32"):
    """Returns a small model whose weights make it far from uniform."""
    tinylm.manual_seed(0)
    rng = np.random.default_rng(0)
    if family == "ngram":
        return NgramLM(vocab_size, 3).fit((rng.random(300) ** 2 * vocab_size).astype(np.int64))
    if family == "gpt":
        model = GPT(GPTConfig(vocab_size=vocab_size, block_size=BLOCK, n_layer=2, n_head=2, n_embd=8, dropout=0.1, bias=True))
    elif family == "llama":
        shape = {"vocab_size": vocab_size, "block_size": BLOCK, "n_layer": 2, "n_head": 4, "n_kv_head": 2, "n_embd": 8, "n_hidden": 12}
        model = Llama(LlamaConfig(**shape, dropout=0.1, attention_bias=True))
    elif family == "transformer":
        model = TransformerModel(vocab_size, 8, 2, 12, 2, 0.1)
        model.block_size = BLOCK
    else:
        kind, _, nonlinearity = family.partition("-")
        model = RNNModel(kind, vocab_size, 6, 8, 2, 0.1, nonlinearity=nonlinearity or "tanh")
    model.to(dtype=dtype)
    # Gates need larger weights to leave 1/2; in the other models float32 must still resolve 1e-5.
    scale = 0.6 if family in ("rnn-sigmoid", "lstm", "gru") else 0.3
    for p in model.parameters():
        p.data += rng.standard_normal(p.shape) * scale
        p.bump_version()
    return model


MODELS = {family: make(family) for family in FAMILIES}


def random_ids(seed, *shape, vocab_size=5):
    return np.random.default_rng(seed).integers(0, vocab_size, shape)


# ---------------------------------------------------------------- probabilities


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "ngram"])
def test_what_was_read_is_what_was_advanced_over(family):
    model = make(family, dtype="float64").eval()
    ids = Tensor(np.random.default_rng(1).integers(0, 5, (2, 7)))
    whole = model.advance(ids)[0].data
    logits, _ = model.advance(Tensor(ids.data[:, 4:]), model.read(Tensor(ids.data[:, :4])))
    np.testing.assert_allclose(logits.data, whole[:, 4:], rtol=1e-9, atol=1e-11)


@families
def test_probabilities_of_all_sequences_sum_to_one(family):
    """The sequences are the three tokens after a first one."""
    model = make(family, dtype="float64")
    log_p = [token_log_probabilities(model, np.array([2, *rest])).sum() for rest in itertools.product(range(5), repeat=3)]
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-9)
    assert np.exp(log_p).max() > 0.02  # uniform would be 0.008


@families
@given(seed=st.integers(0, 1000), cut=st.integers(1, 15))
def test_the_future_changes_nothing_before_it(family, seed, cut):
    """Also beyond the block size."""
    model = MODELS[family]
    ids = random_ids(seed, 20)
    changed = ids.copy()
    changed[cut:] = (changed[cut:] + 1) % 5
    before, after = token_log_probabilities(model, ids), token_log_probabilities(model, changed)
    np.testing.assert_array_equal(after[: cut - 1], before[: cut - 1])
    assert (after[cut - 1 :] != before[cut - 1 :]).any()


# ---------------------------------------------------------------- step by step


@families
@given(seed=st.integers(0, 1000), rows=st.integers(1, 3), parts=st.lists(st.integers(1, 11), min_size=1, max_size=8))
def test_cached_and_uncached_steps_agree(family, seed, rows, parts):
    """The text is fed in parts of any length, also beyond the block size."""
    model = MODELS[family]
    cached, uncached = Stepper(model), Stepper(model, use_cache=False)
    for i, size in enumerate(parts):
        ids = random_ids((seed, i), rows, size)
        found = cached.feed(ids)
        assert found.shape == (rows, 5)
        assert found.dtype == np.float64
        np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_allclose(found, uncached.feed(ids), rtol=0, atol=1e-5)
    assert cached.seen.shape == (rows, sum(parts))


@families
def test_text_is_the_same_without_the_cache(family):
    """Greedy and drawn, far beyond the block size."""
    model = make(family, vocab_size=30)
    prompts = random_ids(2, 6, 3, vocab_size=30)
    for sampling in (Sampling(greedy=True), Sampling(greedy=True, repetition_penalty=1.5), Sampling(top_k=10)):
        cached, uncached = (
            list(generate_batch(model, prompts, 40, sampling, use_cache=c, randoms=[np.random.default_rng(i) for i in range(6)]))
            for c in (True, False)
        )
        assert cached == uncached
    assert len(set(map(tuple, np.transpose(cached)))) == 6


def stepped(model, ids):
    """Returns log p of each token but the first, fed one at a time."""
    stepper = Stepper(model)
    return np.array([stepper.feed(ids[None, t : t + 1])[0, ids[t + 1]] for t in range(ids.size - 1)])


@families
def test_feeding_token_by_token_is_scoring(family):
    """Transformers within the block only: beyond it a Stepper cuts its context, while scoring moves its windows."""
    model = MODELS[family]
    ids = random_ids(3, BLOCK + 1 if family in ("gpt", "llama", "transformer") else 300)
    np.testing.assert_allclose(stepped(model, ids), token_log_probabilities(model, ids), rtol=0, atol=1e-5)


@transformers
def test_a_stepper_past_the_block_keeps_the_newest_half(family):
    """Each distribution is that of the documented context, in a model that never saw the rest."""
    model, ids = MODELS[family], random_ids(4, 3 * BLOCK)
    stepper, start = Stepper(model), 0
    for t in range(ids.size):
        if t + 1 - start > BLOCK:
            start = t + 1 - BLOCK // 2
        found = stepper.feed(ids[None, t : t + 1])
        np.testing.assert_allclose(found, Stepper(model).feed(ids[None, start : t + 1]), rtol=0, atol=1e-5)
    # a prompt longer than the block is cut the same way
    np.testing.assert_allclose(Stepper(model).feed(ids[None]), Stepper(model).feed(ids[None, -BLOCK // 2 :]), rtol=0, atol=1e-12)


@transformers
def test_a_block_of_one(family):
    """The context is then always the last token."""
    model = make(family)
    if family == "gpt":
        model = GPT(GPTConfig(vocab_size=5, block_size=1, n_layer=1, n_head=2, n_embd=8))
    model.block_size = 1
    ids = random_ids(5, 6)
    np.testing.assert_allclose(stepped(model, ids), token_log_probabilities(model, ids), rtol=0, atol=1e-6)


def test_a_recurrent_stepper_goes_on_without_end():
    """The state holds all that it has seen: 300 steps of one token equal one step of 300."""
    model, ids = MODELS["lstm"], random_ids(6, 300)
    whole = Stepper(model).feed(ids[None])
    stepper = Stepper(model)
    for token in ids:
        last = stepper.feed(np.array([[token]]))
    np.testing.assert_allclose(last, whole, rtol=0, atol=1e-5)


# ---------------------------------------------------------------- generation


@families
def test_the_same_seed_gives_the_same_text(family):
    model = MODELS[family]

    def text(seed):
        tinylm.manual_seed(seed)
        return list(generate(model, [1, 2], 30, Sampling(temperature=2.0)))

    assert text(1) == text(1)
    assert text(1) != text(2)
    assert set(text(1)) <= set(range(5))
    assert len(text(1)) == 30


@families
def test_rows_of_a_batch_are_single_generations(family):
    """The rows have the same random streams as single generations; other rows have no influence."""
    model = MODELS[family]
    prompts = random_ids(7, 4, 3).tolist()
    streams = [np.random.default_rng(i) for i in range(4)]
    rows = np.array(list(generate_batch(model, prompts, 20, Sampling(top_k=4), randoms=streams, forbidden=[2]))).T
    for i, prompt in enumerate(prompts):
        alone = list(generate(model, prompt, 20, Sampling(top_k=4), random=np.random.default_rng(i), forbidden=[2]))
        assert rows[i].tolist() == alone
        assert 2 not in alone
    tinylm.manual_seed(3)
    seeded = np.array(list(generate_batch(model, prompts[:2], 20))).T
    tinylm.manual_seed(3)
    for row, prompt, stream in zip(seeded, prompts, [default_generator.numpy(), default_generator.numpy()], strict=False):
        assert row.tolist() == list(generate(model, prompt, 20, random=stream))  # without streams, each row takes the next one


@pytest.mark.parametrize("family", FAMILIES[:-1])
def test_generation_switches_dropout_off_and_leaves_no_gradient(family):
    model = make(family)
    assert model.training
    greedy = [list(generate(model, [1], 20, Sampling(greedy=True))) for _ in range(2)]
    assert greedy[0] == greedy[1]
    stepper = Stepper(model)
    stepper.feed(np.array([[1, 2]]))
    kept = [s for layer in stepper.state for s in ((layer.keys, layer.values) if isinstance(layer, KeyValueCache) else (layer,))]
    assert kept
    assert all(s.node is None and not s.requires_grad for s in kept)


@families
def test_prompts_outside_the_vocabulary(family):
    for bad in (-1, 5):
        with pytest.raises(RangeError, match=f"token 1 of the prompt is {bad}, which is out of range: expected 0 to 4"):
            next(generate(MODELS[family], [1, bad], 1))
