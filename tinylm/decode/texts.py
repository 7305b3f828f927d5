"""Text from a prompt: what a model writes, as a string or piece by piece."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinylm.data.tokenizers import StreamDecoder, Tokenizer
from tinylm.decode.sampling import Sampling, cut_at_stops, generate
from tinylm.decode.scoring import forbidden_ids, line_break
from tinylm.errors import ConfigError
from tinylm.models import LanguageModel, NgramLM

TEMPERATURE = 0.8  # somewhat bolder than the most likely token, somewhat tamer than the model's own distribution


def generate_text(
    model: LanguageModel | NgramLM,
    tokenizer: Tokenizer,
    prompt: str | None = None,
    tokens: int = 200,
    sampling: Sampling | None = None,
    *,
    stop: Sequence[str] = (),
    device: str = "cpu",
    random: np.random.Generator | None = None,
) -> str:
    """Returns the prompt and what the model writes after it: at most `tokens` tokens, up to its end-of-text token or the first of the
    strings `stop`, without these.

    prompt: by default a line break, which is left out. sampling: by default at temperature 0.8. random: by default the next stream of
    the seeded generator (`tinylm.manual_seed`). `scripts/generate.py` prints the same text for the same seed.
    Raises DataError for a prompt that the tokenizer cannot encode; ConfigError for an empty prompt or one that is no text, and for
    None if the model has never seen a line break; otherwise what `generate` raises.

    >>> tokenizer = tinylm.data.CharTokenizer("ab")
    >>> model = tinylm.models.NgramLM(2, order=2).fit(tokenizer.encode("ababab"))
    >>> tinylm.decode.generate_text(model, tokenizer, "a", 4, tinylm.decode.Sampling(greedy=True))
    'ababa'
    """
    ids = first_ids(tokenizer, prompt)
    written = stream_text(model, tokenizer, ids, tokens, sampling, stop=stop, device=device, random=random)
    return (prompt or "") + "".join(written)


def stream_text(
    model: LanguageModel | NgramLM,
    tokenizer: Tokenizer,
    ids: Sequence[int],
    tokens: int,
    sampling: Sampling | None = None,
    *,
    new: bool = False,
    stop: Sequence[str] = (),
    ignore_ends: bool = False,
    device: str = "cpu",
    random: np.random.Generator | None = None,
    use_cache: bool = True,
) -> Iterator[str]:
    """Yields the text that continues the ids (T,), piece by piece as it is generated; the arguments are those of `generate_text`.

    new: the ids are a text of their own, such as what was said before an answer, and the text does not go on from their last
    character. ignore_ends: go on after an end-of-text token. Raises as `generate` and `cut_at_stops` do.
    """

    def pieces() -> Iterator[str]:
        decoder = StreamDecoder(tokenizer, () if new else ids)
        limits = drawn_ids(tokenizer, model.vocab_size, ignore_ends)
        chosen = sampling or Sampling(temperature=TEMPERATURE)
        for token in generate(model, ids, tokens, chosen, device=device, random=random, use_cache=use_cache, **limits):
            yield decoder.push(token)
        yield decoder.finish()

    return cut_at_stops(pieces(), stop)


def first_ids(tokenizer: Tokenizer, prompt: str | None) -> list[int]:
    """Returns the ids of a prompt, after those that stand before every text; of None those of a line break.

    Raises DataError for a prompt that cannot be encoded; ConfigError for what is no text, and for None if the model has never seen a line
    break.
    """
    if not (prompt is None or isinstance(prompt, str)):
        raise ConfigError(f"the prompt is {prompt!r:.60}: expected text; `generate` takes ids")
    ids = [*tokenizer.start, *(line_break(tokenizer) if prompt is None else tokenizer.encode(prompt)).tolist()]
    if prompt is None and not ids:
        raise ConfigError("the model has never seen a line break: give a prompt")
    return ids


def drawn_ids(tokenizer: Tokenizer, vocab_size: int, ignore_ends: bool = False) -> dict[str, Any]:
    """Returns `forbidden` and `ends` as `generate` takes them: the ids that are never drawn, and those that end a text."""
    ends = () if ignore_ends else tuple(i for i in tokenizer.ends if i < vocab_size)
    return {"forbidden": forbidden_ids(tokenizer, vocab_size), "ends": ends}
