"""n-grams that do not occur again, biases of tokens, several samples of one prompt, and the logits of the last position."""

import itertools
import math

import numpy as np
import pytest

import tinylm
from tinylm.data.tokenizers import train_tokenizer
from tinylm.decode import Sampling, beam_search, generate, generate_batch, greedy, token_biases
from tinylm.decode.constraints import completing_tokens
from tinylm.decode.stepping import Stepper
from tinylm.engine.random_keys import default_generator
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, ConfigError, RangeError
from tinylm.models import GPT, GPTConfig, Llama, LlamaConfig, NgramLM, RNNModel, TransformerModel
from tinylm.models.ensemble import Ensemble

V = 7
MODELS = {
    "gpt": lambda: GPT(GPTConfig(V, 16, n_layer=2, n_head=2, n_embd=8)),
    "llama": lambda: Llama(LlamaConfig(V, 16, 2, n_head=4, n_kv_head=2, n_embd=16, n_hidden=12)),
    "transformer": lambda: TransformerModel(V, 8, 2, 12, 2, dropout=0.0),
    "lstm": lambda: RNNModel("lstm", V, 8, 8, 2),
    "gru": lambda: RNNModel("gru", V, 5, 7, 1),
    "ensemble": lambda: Ensemble([RNNModel("lstm", V, 8, 8, 1), RNNModel("lstm", V, 8, 8, 1)]),
    "ngram": lambda: NgramLM(V, 3).fit(np.random.default_rng(0).integers(0, V, 300)),
}


@pytest.fixture(scope="module")
def models():
    tinylm.manual_seed(3)
    made = {name: make() for name, make in MODELS.items()}
    for model in made.values():
        if not isinstance(model, NgramLM):
            model.to(dtype=np.float64)
            for p in model.parameters():
                p.data[...] *= 3  # far from uniform
                p.bump_version()
    return made


# ---------------------------------------------------------------- n-grams


@pytest.mark.parametrize(
    ("context", "n", "expected"),
    [
        ([1, 2, 3, 1, 2], 3, [3]),
        ([1, 2, 3, 1, 2, 4, 1, 2], 3, [3, 4]),
        ([1, 2, 3, 1, 2], 2, [3]),
        ([1, 2, 3, 2, 1, 2], 2, [1, 3]),
        ([5, 5], 2, [5]),
        ([5, 3, 5], 1, [3, 5]),
        ([1, 2, 3], 3, []),
        ([1, 2], 3, []),
        ([], 1, []),
        ([1, 2, 1], 0, []),
        ([1, 2, 3, 1, 2], 9, []),
    ],
)
def test_the_tokens_that_would_complete_an_ngram(context, n, expected):
    assert completing_tokens(np.array(context, np.int64), n).tolist() == expected


@pytest.mark.parametrize("seed", range(20))
def test_against_lists(seed):
    rng = np.random.default_rng(seed)
    context, n = rng.integers(0, 4, 30).tolist(), int(rng.integers(1, 5))
    known = {tuple(context[i : i + n]) for i in range(len(context) - n + 1)}
    expected = [t for t in range(4) if (*context[len(context) - n + 1 :], t) in known]
    assert completing_tokens(np.array(context), n).tolist() == expected


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("greedily", [False, True])
def test_no_ngram_occurs_twice(models, name, greedily):
    """Also beyond the block, where the model no longer sees the first one; without blocking some do."""
    prompt = [1, 2, 1]

    def repeats(n):
        sampling = Sampling(greedily, temperature=0.3, no_repeat_ngram=n)
        tinylm.manual_seed(1)
        ids = [*prompt, *generate(models[name], prompt, 30, sampling)]
        pairs = list(itertools.pairwise(ids))
        return len(pairs) - len(set(pairs))

    assert repeats(0) > 0
    assert repeats(2) == 0


def test_a_text_that_cannot_go_on(models):
    with pytest.raises(AnomalyError, match="no token can be drawn: none is left by no_repeat_ngram 1"):
        list(generate(models["ngram"], [0], 20, Sampling(no_repeat_ngram=1)))
    with pytest.raises(AnomalyError, match="none is left by no_repeat_ngram 1 and logit_bias"):
        list(generate(models["ngram"], [0], 20, Sampling(no_repeat_ngram=1, logit_bias={1: -math.inf})))


class Loop:
    """A model of translations that always prefers A, then B, and the end (1) only after that."""

    def step(self, ids, state):
        return Tensor(np.tile(np.log([1e-9, 0.1, 0.6, 0.3]), (len(ids.data), 1))), state

    def select(self, rows):
        return self


def test_in_beams_and_greedy_decoding():
    ask = {"bos": 0, "eos": 1, "max_tokens": 8, "forbidden": [0]}
    assert greedy(Loop(), Loop(), **ask).tokens == [2] * 8
    one = greedy(Loop(), Loop(), **ask, no_repeat_ngram=2)
    assert one.tokens == [2, 2, 3, 2]  # then 2 and 3 would each repeat a pair
    assert one.finished
    assert beam_search(Loop(), Loop(), **ask, beams=1, no_repeat_ngram=2)[0] == one
    best = beam_search(Loop(), Loop(), **ask, beams=50, alpha=0.0, no_repeat_ngram=1)
    assert sorted(h.tokens for h in best) == [[], [2], [2, 3], [3], [3, 2]]  # all there are
    with pytest.raises(AnomalyError, match=r"no token is possible at position 2: each would repeat an n-gram \(no_repeat_ngram 1\)"):
        greedy(Loop(), Loop(), **{**ask, "forbidden": [0, 1]}, no_repeat_ngram=1)
    for decode in (greedy, beam_search):
        with pytest.raises(ConfigError, match="no_repeat_ngram is -1: expected at least 0, a whole number"):
            decode(Loop(), Loop(), **ask, no_repeat_ngram=-1)


# ---------------------------------------------------------------- biases


def test_the_bias_is_added_to_log_p():
    p = np.array([0.1, 0.4, 0.3, 0.2])
    found = Sampling(logit_bias={0: math.log(3), 2: -math.inf}).distribution(np.log(p))
    np.testing.assert_allclose(found, np.array([0.3, 0.4, 0, 0.2]) / 0.9)
    found = Sampling(temperature=0.5, logit_bias={0: math.log(3)}).distribution(np.log(p))
    np.testing.assert_allclose(found, (expected := np.array([0.3, 0.4, 0.3, 0.2]) ** 2) / expected.sum())
    penalised = Sampling(repetition_penalty=2, logit_bias={1: 1.0}).distribution(np.log(p), np.array([1]))
    np.testing.assert_allclose(penalised, (expected := np.array([0.1, 0.16 * math.e, 0.3, 0.2])) / expected.sum())
    assert Sampling(greedy=True, logit_bias={0: 5}).token(np.log(p), None, np.random.default_rng(0)) == 0
    assert Sampling(logit_bias={0: 0}).distribution(np.log(p)) == pytest.approx(p)
    assert len({Sampling(logit_bias={0: 1.0}), Sampling(logit_bias={0: 1.0})}) == 1


@pytest.mark.parametrize("name", MODELS)
def test_biases_while_generating(models, name):
    assert 3 not in list(generate(models[name], [3, 1], 40, Sampling(logit_bias={3: -math.inf})))
    assert list(generate(models[name], [1], 5, Sampling(logit_bias={3: 1e4}))) == [3] * 5


@pytest.mark.parametrize(
    ("bias", "error", "message"),
    [
        ({9: 1.0}, RangeError, "a token of logit_bias is 9, which is out of range: expected 0 to 6"),
        ({-1: 1.0}, ConfigError, "logit_bias has the key -1: expected the id of a token"),
        ({"a": 1.0}, ConfigError, "logit_bias has the key 'a': expected the id of a token"),
        ({1: math.nan}, ConfigError, "the logit bias of 1 is nan: expected a finite number, or -inf"),
        ({1: math.inf}, ConfigError, "the logit bias of 1 is inf"),
        ({1: "x"}, ConfigError, "the logit bias of 1 is 'x'"),
        ([1], ConfigError, r"logit_bias is \[1\]: expected a bias for each"),
    ],
)
def test_biases_that_are_refused(models, bias, error, message):
    with pytest.raises(error, match=message):
        list(generate(models["ngram"], [1], 1, Sampling(logit_bias=bias)))


def test_biases_by_text():
    tokenizer = train_tokenizer("char", "abc ")
    a = int(tokenizer.encode("a")[0])
    assert token_biases(tokenizer, {"a": 1.5, int(tokenizer.encode("b")[0]): -math.inf}, 4) == {a: 1.5, a + 1: -math.inf}
    for biases, error, message in [
        ({"ab": 1}, ConfigError, r"for 'ab', which is 2 tokens, \['a', 'b'\]: expected the text of one token"),
        ({"": 1}, ConfigError, "for '', which is 0 tokens"),
        ({"z": 1}, ConfigError, "the logit bias of 'z': unknown character 'z'"),
        ({a: 1, "a": 2}, ConfigError, f"names token {a} twice, the second time as 'a'"),
        ({99: 1}, RangeError, "a token of the logit bias is 99, which is out of range"),
        ({"a": math.nan}, ConfigError, "the logit bias of 'a' is nan"),
    ]:
        with pytest.raises(error, match=message):
            token_biases(tokenizer, biases, 4)


# ---------------------------------------------------------------- samples


@pytest.mark.parametrize("name", MODELS)
def test_samples_of_one_prompt_are_the_texts_drawn_one_by_one(models, name):
    """Also beyond the block, and among other prompts; the prompt is read once."""
    model, prompts = models[name], [[1, 2, 3], [1, 2, 3], [3, 2, 1], [1, 2, 3]]
    tinylm.manual_seed(5)
    streams = [default_generator.numpy() for _ in prompts]
    alone = [list(generate(model, prompt, 20, random=stream)) for prompt, stream in zip(prompts, streams, strict=True)]
    tinylm.manual_seed(5)
    assert [list(row) for row in zip(*generate_batch(model, prompts, 20), strict=True)] == alone
    assert alone[0] != alone[1]
    tinylm.manual_seed(5)
    assert [list(row) for row in zip(*generate_batch(model, prompts, 20, use_cache=False), strict=True)] == alone
    tinylm.manual_seed(5)
    two = [list(row) for row in zip(*generate_batch(model, prompts[:2], 20), strict=True)]
    assert two == alone[:2]  # the number of samples changes nothing in those before


def test_the_prompt_of_all_samples_is_read_once(models, monkeypatch):
    model, given = models["gpt"], []
    advance = model.advance
    monkeypatch.setattr(model, "advance", lambda ids, state=None: given.append(ids.shape) or advance(ids, state))
    list(generate_batch(model, [[1, 2, 3, 4]] * 5, 3))
    assert given == [(1, 4), (5, 1), (5, 1)]
    given.clear()
    list(generate_batch(model, [[1, 2], [2, 1]], 1))
    assert given == [(2, 2)]


@pytest.mark.parametrize("name", MODELS)
def test_rows_go_on_from_the_row_they_were_chosen_from(models, name):
    stepper, whole = Stepper(models[name]), Stepper(models[name])
    stepper.feed(np.array([[1, 2], [3, 4]]))
    stepper.select(np.array([1, 0, 1]))
    found = stepper.feed(np.array([[5], [5], [6]]))
    expected = whole.feed(np.array([[3, 4, 5], [1, 2, 5], [3, 4, 6]]))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


# ---------------------------------------------------------------- the last position


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "ngram"])
def test_the_last_logits_are_those_of_all_positions(name, dtype):
    """To the last bit, whatever the length: the product is computed for as many rows as its order of additions needs."""
    tinylm.manual_seed(2)
    model = MODELS[name]() if name not in ("gpt", "llama") else None
    if model is None:
        sizes = {"vocab_size": 40, "block_size": 200, "n_layer": 1, "n_head": 2, "n_embd": 24}
        model = GPT(GPTConfig(**sizes)) if name == "gpt" else Llama(LlamaConfig(**sizes, n_kv_head=1, n_hidden=12))
    model.to(dtype=dtype).eval()
    rng = np.random.default_rng(0)
    with tinylm.no_grad():
        for batch, steps in ((1, 1), (2, 5), (1, 33), (3, 70), (1, 150)):
            ids = Tensor(rng.integers(0, V, (batch, steps)))
            (expected, state), (found, its_state) = model.advance(ids), model.advance_to_last(ids)
            assert found.shape == (batch, model.vocab_size)
            np.testing.assert_array_equal(found.numpy(), expected.numpy()[:, -1], err_msg=f"{batch} x {steps}")
            more = Tensor(rng.integers(0, V, (batch, 2)))
            np.testing.assert_array_equal(model.advance_to_last(more, its_state)[0].numpy(), model.advance(more, state)[0].numpy()[:, -1])


def test_a_model_with_an_advance_of_its_own_is_asked_that(models):
    class Shifted(GPT):
        def advance(self, ids, state=None):
            logits, state = super().advance(ids, state)
            return logits + np.arange(V), state

    model = Shifted(models["gpt"].config).to(dtype=np.float64)
    model.load_state_dict(models["gpt"].state_dict())
    ids = np.array([[1, 2, 3]])
    np.testing.assert_allclose(Stepper(model).scores(ids), Stepper(models["gpt"]).scores(ids) + np.arange(V), rtol=1e-12)


@pytest.mark.parametrize("name", ["gpt", "lstm"])
def test_samples_on_a_gpu(emulated_cuda, models, name):
    model, expected = MODELS[name](), []
    for device in ("cpu", "cuda"):
        model.to(device=device, dtype=np.float64)
        tinylm.manual_seed(5)
        expected.append(list(generate_batch(model, [[1, 2, 3]] * 3, 4, Sampling(no_repeat_ngram=2), device=device)))
    assert expected[0] == expected[1]
    assert len({tuple(row) for row in zip(*expected[0], strict=True)}) > 1
