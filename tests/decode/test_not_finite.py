"""Logits that are not finite: nothing is drawn from them, scored or decoded, and the error names the position and the parameter."""

import math
from typing import Any

import numpy as np
import pytest

from tinylm.data.tokenizers import CharTokenizer
from tinylm.decode import Sampling, Stepper, beam_search, generate, greedy, score_text, token_log_probabilities
from tinylm.decode.context import log_probabilities_given
from tinylm.decode.sampling import draw
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, DataError, TinylmError
from tinylm.models import GPT, Ensemble, GPTConfig, LanguageModel, RNNModel
from tinylm.studies.dynamic_evaluation import dynamic_losses
from tinylm.studies.mixing import mix
from tinylm.train.tasks.token_losses import token_losses, validation_loss

IDS = np.array([0, 1, 2, 3, 2, 1, 0, 4, 3, 2])
# logits after the third token, and what the message calls them
ROWS = {
    "NaN": ([0.0, math.nan, 0, 0, 0], "NaN"),
    "+inf": ([0.0, math.inf, 0, 0, 0], "+inf"),
    "both": ([math.inf, -math.inf, math.nan, 0, 0], "NaN"),
    "-inf": ([-math.inf] * 5, "-inf for every token"),
}


class Fixed(LanguageModel):
    """Uniform logits, and others at one position of the text; a recurrent model, so that it knows its position."""

    def __init__(self, row: Any, at: int = 2) -> None:
        super().__init__()
        self.row, self.at, self.vocab_size, self.block_size = np.array(row, np.float32), at, 5, None

    def advance(self, ids: Tensor, state: Any = None) -> Any:
        done = 0 if state is None else int(state[0].data[0, 0])
        logits = np.zeros((*ids.shape, 5), np.float32)
        if 0 <= self.at - done < ids.shape[1]:
            logits[:, self.at - done] = self.row
        return Tensor(logits), [Tensor(np.full((1, ids.shape[0]), done + ids.shape[1], np.float32))]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize(
    "settings", [{}, {"greedy": True}, {"top_k": 2}, {"top_p": 0.5}, {"min_p": 0.1}, {"repetition_penalty": 1.5}], ids=str
)
def test_generation_stops_where_they_are(name: str, settings: dict[str, Any]) -> None:
    row, kind = ROWS[name]
    stream = generate(Fixed(row), [0], 10, Sampling(**settings))
    drawn = [next(stream), next(stream)]
    with pytest.raises(AnomalyError, match=f"logits are {kind.replace('+', '[+]')} at position 2, so the next token cannot be predicted"):
        next(stream)
    assert all(0 <= token < 5 for token in drawn)


@pytest.mark.parametrize("settings", [{}, {"greedy": True}, {"top_k": 2}, {"repetition_penalty": 1.5}], ids=str)
def test_an_infinity_is_not_drawn_from(settings: dict[str, Any]) -> None:
    sampling = Sampling(**settings)
    for bad in ([0.0, math.inf, 1.0], [math.inf, math.nan, 0.0]):
        with pytest.raises(AnomalyError, match="no token can be drawn: the largest log-probability is"):
            sampling.distribution(np.array(bad), np.array([0]))
        with pytest.raises(AnomalyError, match="no token can be drawn"):
            sampling.token(np.array(bad), np.array([0]), np.random.default_rng(0))


def test_tokens_of_probability_zero_are_allowed() -> None:
    """-inf for some tokens is a mask."""
    model = Fixed([-math.inf, 0, 0, -math.inf, -math.inf])
    np.testing.assert_allclose(np.exp(Stepper(model).feed(IDS[None, :3])), [[0, 0.5, 0.5, 0, 0]])
    assert next(generate(model, IDS[:3], 1)) in (1, 2)
    assert token_log_probabilities(model, IDS)[2] == -math.inf  # the fourth token is 3
    assert token_losses(model, IDS)[2] == math.inf


@pytest.mark.parametrize("name", ROWS)
def test_scores_of_them_are_refused(name: str) -> None:
    row, kind = ROWS[name]
    said = f"logits are {kind.replace('+', '[+]')} at position 2"
    with pytest.raises(AnomalyError, match=said):
        token_log_probabilities(Fixed(row), IDS)
    with pytest.raises(AnomalyError, match=said):
        score_text(Fixed(row), CharTokenizer("\nabcd"), "abcd")
    with pytest.raises(AnomalyError, match=r"logits are .* at position 4"):  # the third token of the context
        log_probabilities_given(Fixed(row), IDS, np.array([5]), 3)
    with pytest.raises(AnomalyError, match="logits are not finite at position 2"):
        token_losses(Fixed(row), IDS)
    assert math.isnan(validation_loss(Fixed(row), IDS))  # a run says after which step
    with pytest.raises(AnomalyError, match="logits are"):
        Stepper(Fixed(row)).feed(IDS[None, :3])


def broken(kind: str, value: float) -> tuple[LanguageModel, str]:
    """Returns a model with one weight of this value, and that weight's name."""
    if kind == "gpt":
        model: LanguageModel = GPT(GPTConfig(vocab_size=5, block_size=8, n_layer=2, n_head=1, n_embd=4))
        name, place = "transformer.h.1.mlp.c_fc.weight", (2, 3)
    elif kind == "gru":
        model, (name, place) = RNNModel("gru", 5, 4, 6, 1), ("rnn.bias_ih_l0", (4,))
    else:
        members = [broken("gpt", 0.0)[0], broken("gpt", value)[0]]
        return Ensemble(members), "'members.1.transformer.h.1.mlp.c_fc.weight' holds .* at .2, 3."
    parameter = dict(model.named_parameters())[name]
    parameter.data[place] = value
    parameter.bump_version()
    return model.eval(), f"'{name}' holds .* at .{', '.join(map(str, place))}."


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("kind", ["gpt", "gru", "ensemble"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_first_bad_parameter_is_named(kind: str, value: float) -> None:
    model, named = broken(kind, value)
    named = f"parameter {named}".replace(".*", "a NaN" if math.isnan(value) else "an infinity")
    actions: dict[str, Any] = {
        "generate": lambda: list(generate(model, [1, 2], 3)),
        "score": lambda: token_log_probabilities(model, IDS),
        "context": lambda: log_probabilities_given(model, IDS, np.array([5]), 3),
        "losses": lambda: token_losses(model, IDS),
        "dynamic": lambda: dynamic_losses(model, IDS, 0.1),
    }
    if kind == "gru" and math.isinf(value):
        return  # its gate saturates, as it should
    for action in actions.values():
        with pytest.raises(AnomalyError, match=named):
            action()


def test_where_finite_weights_overflow() -> None:
    model = GPT(GPTConfig(vocab_size=5, block_size=8, n_layer=1, n_head=1, n_embd=4))
    model.transformer.wte.weight.data[...] = 3e38
    model.transformer.wte.weight.bump_version()
    with pytest.raises(AnomalyError, match="all its parameters are finite, so an op overflows"), np.errstate(all="ignore"):
        list(generate(model, [1, 2], 3))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_learning_rate_that_diverges() -> None:
    model = RNNModel("gru", 5, 4, 6, 1)
    ids = np.random.default_rng(0).integers(0, 5, 2000)
    with pytest.raises(TinylmError, match=r"lower learning rate|gradient norm is"):
        dynamic_losses(model, ids, 3e38)


class Decoder:
    """A translator's decoder: uniform logits, and others at one step."""

    def __init__(self, row: Any, at: int = 2) -> None:
        self.row, self.at = np.array(row), at

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        logits = np.tile([0.0, 0, 0, 0, -50], (len(ids.data), 1))
        if state.step == self.at:
            logits[:] = self.row
        return Tensor(logits), Steps(state.step + 1)


class Steps:
    def __init__(self, step: int) -> None:
        self.step = step

    def select(self, rows: np.ndarray) -> "Steps":
        return self


@pytest.mark.parametrize("name", ROWS)
def test_translations(name: str) -> None:
    row, kind = ROWS[name]
    ask: dict[str, Any] = {"bos": 0, "eos": 4, "max_tokens": 6, "forbidden": [0]}
    for search in (greedy, beam_search):
        with pytest.raises(AnomalyError, match=f"logits are {kind.replace('+', '[+]')} at position 2"):
            search(Decoder(row), Steps(0), **ask)
        with pytest.raises(AnomalyError, match=r"no token is possible at position 2: those that .* are forbidden"):
            search(Decoder([0, *[-math.inf] * 4]), Steps(0), **ask)


def test_mixtures() -> None:
    sound = np.array([1.0, 2.0])
    with pytest.raises(DataError, match=r"losses of token 1 are \[2.0, nan\]"):
        mix([sound, np.array([1.0, math.nan])])
    with pytest.raises(DataError, match=r"losses of token 0 are \[inf, inf\]"):
        mix([np.array([math.inf, 1.0])] * 2)
    mixed, _ = mix([sound, np.array([math.inf, 2.0])])  # one model finds the token impossible
    assert mixed[0] == pytest.approx(1 + math.log(2))


@pytest.mark.parametrize(
    ("p", "message"),
    [
        ([math.nan, 0.5], "the probability of token 0 is nan"),
        ([0.5, -0.25, 1.0], "the probability of token 1 is -0.25"),
        ([0.5, math.inf, math.nan], "the probability of token 1 is inf"),
        ([0.0, 0.0], "the probabilities' sum is 0 or infinite"),
        ([], "the probabilities' sum is 0 or infinite"),
    ],
)
def test_nothing_is_drawn_from_what_is_no_distribution(p: list[float], message: str) -> None:
    with pytest.raises(AnomalyError, match=f"^no token can be drawn: {message}$"):
        draw(np.array(p), np.random.default_rng(0))
