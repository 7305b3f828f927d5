"""What is given to decoding: prompts, forbidden tokens and settings that are none get one error with the value and what was expected."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from tinylm.decode import Sampling, Stepper, beam_search, generate, generate_batch, greedy, token_log_probabilities
from tinylm.decode.context import log_probabilities_given, sample_positions
from tinylm.decode.sampling import cut_at_stops
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError, ShapeError, TinylmError
from tinylm.models import GPT, GPTConfig, LanguageModel, NgramLM, RNNModel
from tinylm.studies.dynamic_evaluation import dynamic_losses
from tinylm.train.tasks.token_losses import token_losses

MODELS = [
    GPT(GPTConfig(vocab_size=5, block_size=8, n_layer=1, n_head=1, n_embd=4)),
    NgramLM(5, 2).fit(np.array([0, 1, 2, 3, 4, 0])),
]
eachmodel = pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)


@eachmodel
@pytest.mark.parametrize(
    "prompt", [[1, 2], (1, 2), range(1, 3), np.array([1, 2], np.uint16), [np.int8(1), np.array(2)], Tensor(np.array([1, 2]))], ids=repr
)
def test_ids_in_every_form(model: Any, prompt: Any) -> None:
    expected = list(generate(model, [1, 2], 5, Sampling(greedy=True)))
    assert list(generate(model, prompt, 5, Sampling(greedy=True))) == expected
    assert [row[0] for row in generate_batch(model, [prompt], 5, Sampling(greedy=True))] == expected


@eachmodel
@pytest.mark.parametrize(
    ("prompt", "kind", "message"),
    [
        ([1.0, 2.0], ShapeError, r"token 0 of the prompt is 1.0: expected an integer"),
        ([1, 2.7], ShapeError, r"token 1 of the prompt is 2.7"),
        (np.array([1.5, 2]), ShapeError, r"token 0 of the prompt is np.float64\(1.5\)"),
        (Tensor(np.array([1.5, 2])), ShapeError, "token 0 of the prompt is"),
        ([1, math.nan], ShapeError, "token 1 of the prompt is nan"),
        ([True, False], ShapeError, "token 0 of the prompt is True"),
        (np.array([True]), ShapeError, "token 0 of the prompt is"),
        (["1"], ShapeError, "token 0 of the prompt is '1'"),
        ("12", ShapeError, "the prompt is '12': expected a sequence of token ids"),
        (b"12", ShapeError, "the prompt is b'12'"),
        ([None], ShapeError, "token 0 of the prompt is None"),
        (None, ShapeError, "the prompt is None"),
        (3, ShapeError, "the prompt is 3"),
        (np.array(3), ShapeError, r"the prompt is array\(3\)"),
        ({1, 2}, ShapeError, "the prompt is {1, 2}"),
        ([[1, 2]], ShapeError, r"token 0 of the prompt is \[1, 2\]"),
        (np.array([[1, 2]]), ShapeError, "token 0 of the prompt is"),
        ([1, -1], RangeError, "token 1 of the prompt is -1, which is out of range: expected 0 to 4"),
        ([5], RangeError, "token 0 of the prompt is 5, which is out of range"),
        ([10**30], RangeError, "out of range"),
        (np.array([2**64 - 1], np.uint64), RangeError, "out of range"),
        ([], ConfigError, "the prompt is empty"),
        (np.array([]), ConfigError, "the prompt is empty"),
    ],
    ids=repr,
)
def test_prompts_that_are_none(model: Any, prompt: Any, kind: type[TinylmError], message: str) -> None:
    with pytest.raises(kind, match=message):
        list(generate(model, prompt, 1))
    with pytest.raises(kind, match=message):
        list(generate_batch(model, [prompt, prompt], 1))


@pytest.mark.parametrize(
    ("forbidden", "message"),
    [([5], "forbidden token is 5, which is out of range: expected 0 to 4"), ([-1], "is -1"), ([1.0], "is 1.0: expected an integer"),
     ([True], "is True"), (["a"], "is 'a'")],
)  # fmt: skip
def test_forbidden_tokens_that_are_none(forbidden: Any, message: str) -> None:
    with pytest.raises(TinylmError, match=message):
        list(generate(MODELS[0], [1], 1, forbidden=forbidden))
    for search in (greedy, beam_search):
        with pytest.raises(TinylmError, match=message):
            search(Uniform(), None, bos=0, eos=1, max_tokens=2, forbidden=forbidden)


WRONG: list[Any] = ["1", None, True, [1.0], 1j, Decimal(1), math.nan]


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "min_p", "repetition_penalty"])
@pytest.mark.parametrize("value", WRONG, ids=repr)
def test_settings_of_another_type(name: str, value: Any) -> None:
    if name == "top_k" and value is None:
        return  # all tokens
    with pytest.raises(ConfigError, match=name):
        Sampling(**{name: value})


def test_settings_that_are_no_whole_numbers() -> None:
    for value in (2.5, 2.0, math.inf):
        with pytest.raises(ConfigError, match=r"top_k .* expected at least 1, a whole number"):
            Sampling(top_k=value)  # type: ignore[arg-type]
    for value in (2.5, 2.0, math.inf, "3", None, True, -1):
        with pytest.raises(ConfigError, match=r"tokens .* expected at least 0, a whole number"):
            list(generate(MODELS[0], [1], value))  # type: ignore[arg-type]
    for value in ("no", 1, None):
        with pytest.raises(ConfigError, match=r"greedy is .*: expected True or False"):
            Sampling(greedy=value)  # type: ignore[arg-type]
    assert Sampling(temperature=np.float32(0.5), top_k=np.int64(2), top_p=1, min_p=np.float64(0)).top_k == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("randoms", [[5], [None, None], [], ["x"], [0]], ids=repr)
def test_streams_that_are_none(randoms: Any) -> None:
    with pytest.raises(ConfigError, match="expected a random generator or None for each of the 1 prompts"):
        list(generate_batch(MODELS[0], [[1]], 1, randoms=randoms))


class Uniform:
    """A decoder without preferences."""

    def step(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        return Tensor(np.zeros((len(ids.data), 5))), state


@pytest.mark.parametrize("value", [-1, 2.0, "4", None, True, math.nan], ids=repr)
def test_settings_of_beams(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"max_tokens is .* expected at least 0, a whole number"):
        greedy(Uniform(), None, bos=0, eos=1, max_tokens=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"max_tokens is .* expected at least 0, a whole number"):
        beam_search(Uniform(), None, bos=0, eos=1, max_tokens=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"beams is .* expected at least 1, a whole number"):
        beam_search(Uniform(), None, bos=0, eos=1, max_tokens=3, beams=value)  # type: ignore[arg-type]
    if value not in (2.0, True):
        with pytest.raises(ConfigError, match=r"alpha is .* expected at least 0"):
            beam_search(Uniform(), None, bos=0, eos=1, max_tokens=3, alpha=value)  # type: ignore[arg-type]


def test_an_end_that_the_vocabulary_lacks() -> None:
    """It would never be reached."""
    for search in (greedy, beam_search):
        with pytest.raises(RangeError, match="eos is 5, which is out of range: expected 0 to 4"):
            search(Uniform(), None, bos=0, eos=5, max_tokens=3)  # type: ignore[arg-type]


def test_stop_strings_that_are_none() -> None:
    for stops in ("end", [1], [None], ["a", b"b"]):
        with pytest.raises(ConfigError, match=r"the stop strings are .* expected a list of strings"):
            list(cut_at_stops(iter(["text"]), stops))  # type: ignore[arg-type]


def test_contexts_that_are_none() -> None:
    ids = np.array([0, 1, 2, 3, 4])
    for context in (1.5, "2", True, math.nan, None, 0):
        with pytest.raises(ConfigError, match="context is"):
            log_probabilities_given(MODELS[0], ids, np.array([4]), context)  # type: ignore[arg-type]
    for count in (1.5, "2", True, 0):
        with pytest.raises(ConfigError, match=r"positions: expected at least 1"):
            sample_positions(9, 2, count)  # type: ignore[arg-type]


NOT_IDS: list[Any] = [
    np.array([1.0, 2, 3]), np.array([[1, 2], [3, 4]]), np.array(3), np.array([True, False]), "abc", None, [1.5, 2], [[1], [2, 3]],
    np.array(["a", "b"]), {1, 2},
]  # fmt: skip
RECURRENT = RNNModel("gru", 5, 4, 4, 1)


@pytest.mark.parametrize("model", [*MODELS, RECURRENT], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("ids", NOT_IDS, ids=repr)
def test_ids_to_score_that_are_none(model: Any, ids: Any) -> None:
    uses: list[Callable[[], Any]] = [
        lambda: token_log_probabilities(model, ids), lambda: token_losses(model, ids),
        lambda: log_probabilities_given(model, ids, np.array([1]), 1), lambda: log_probabilities_given(model, np.arange(4), ids, 1),
        lambda: Stepper(model).feed(ids[0] if isinstance(ids, np.ndarray) and ids.ndim == 2 else ids),
    ]  # fmt: skip
    if isinstance(model, LanguageModel):
        uses.append(lambda: dynamic_losses(model, ids, 0.1))
    for use in uses:
        with pytest.raises(ShapeError, match="must be an array of integers, got"):
            use()


@pytest.mark.parametrize("model", [*MODELS, RECURRENT], ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("use_cache", [True, False])
def test_tokens_that_were_refused_count_as_not_fed(model: Any, use_cache: bool) -> None:
    expected, stepper = Stepper(model, use_cache=use_cache), Stepper(model, use_cache=use_cache)
    expected.feed(np.array([[1, 2]]))
    stepper.feed(np.array([[1, 2]]))
    for bad in ([[1, 5]], [[-1, 2]], [[5] + [0] * 9]):
        with pytest.raises(RangeError, match=r"token id (5|-1) is out of range"):
            stepper.feed(np.array(bad))
    for _ in range(8):  # beyond the block of the Transformer
        np.testing.assert_array_equal(stepper.feed(np.array([[3]])), expected.feed(np.array([[3]])))
