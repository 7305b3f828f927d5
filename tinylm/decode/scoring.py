"""The probability of a text: per token, as perplexity, and as bits per byte."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tinylm.data.tokenizers import Tokenizer, token_texts
from tinylm.data.unknown import Unknown, unknown_in
from tinylm.decode.prompts import id_array
from tinylm.decode.stepping import checked_logits, evaluation_mode, log_softmax
from tinylm.engine.devices import to_device, to_numpy
from tinylm.engine.ids import check_ids
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, DataError
from tinylm.models import LanguageModel, NgramLM

_CHUNK = 256  # tokens per forward pass of a recurrent model


def token_log_probabilities(model: LanguageModel | NgramLM, ids: np.ndarray, device: str = "cpu") -> np.ndarray:
    """Returns log p(ids[t] | ids[..t-1]) for t = 1, 2, ...: (len(ids) - 1,) float64, in nats.

    n-gram models see the last order - 1 tokens, recurrent models all of them. A Transformer sees windows
    of block_size tokens that advance by half a block: each token is scored once, with at least
    block_size/2 tokens before it where the text has them. Meanwhile the model is in evaluation mode.
    Raises RangeError for ids outside the vocabulary, ShapeError for ids that are no integers or not in one dimension,
    AnomalyError for logits that are not finite, with their position.
    """
    ids = id_array(ids, 1, "token id")
    check_ids(ids, model.vocab_size, "token id")
    if len(ids) < 2:
        return np.zeros(0)
    if isinstance(model, NgramLM):
        return model.log_probabilities(ids[1:], ids[:1])
    with evaluation_mode(model):
        return np.concatenate(list(_scored_parts(model, ids, device)))


def _scored_parts(model: LanguageModel, ids: np.ndarray, device: str) -> Iterator[np.ndarray]:
    """Yields the log-probabilities of one window after the other, or for a recurrent model of one chunk after the other."""
    block, state = model.block_size, None
    overlap = 0 if block is None else block - max(block // 2, 1)  # of a window with the one before it
    done = 0  # the number of tokens after the first that have been scored
    while done < len(ids) - 1:
        start = max(done - overlap, 0)
        stop = min(start + (block or _CHUNK), len(ids) - 1)
        x = Tensor(to_device(np.ascontiguousarray(ids[None, start:stop]), device))
        logits, state = model.advance(x, state if block is None else None)
        log_p = log_softmax(checked_logits(model, to_numpy(logits.data)[0, done - start :], np.arange(done, stop)))
        yield log_p[np.arange(stop - done), ids[done + 1 : stop + 1]]
        done = stop


@dataclass(frozen=True)
class Score:
    """The probability of a text under a model."""

    text: str
    tokens: list[str]  # the tokens that were scored, as text
    log_probabilities: np.ndarray  # of each, in nats
    unknown: int  # the number of them that stand for words outside the vocabulary
    bytes: int  # the length of the scored text in UTF-8
    spelling: float | None = 0.0  # -log p of the spelling of the unknown words, in nats; None without a model of it
    own_unknown: int = 0  # the number of tokens that are an <unk> of the text itself

    @property
    def log_probability(self) -> float:
        """log p of the whole text, in nats, with <unk> in the place of unknown words."""
        return float(self.log_probabilities.sum())

    @property
    def perplexity(self) -> float:
        """exp(-log p / tokens); NaN if nothing was scored."""
        loss = -self.log_probability / len(self.tokens) if self.tokens else math.nan
        return math.inf if loss > 709 else math.exp(loss)

    @property
    def bits_per_byte(self) -> float:
        """-log2 p / bytes, the spelling of unknown words included: comparable between tokenizers; NaN if nothing was scored."""
        nats = (self.spelling or 0.0) - self.log_probability
        return nats / math.log(2) / self.bytes if self.bytes else math.nan

    def unknown_words(self) -> Unknown:
        """Returns what the text has of them."""
        return Unknown(len(self.tokens), self.unknown, self.spelling, self.own_unknown)


def score_text(model: LanguageModel | NgramLM, tokenizer: Tokenizer, text: str, *, sentence: bool = False, device: str = "cpu") -> Score:
    """Returns the score of a text that follows a line break, the models' beginning of a sentence (BOS); or the tokenizer's own
    BOS if it puts one before every text.

    sentence: also score the line break after it, the end of the sentence (EOS), so that the probabilities of all
    sentences of all lengths sum to 1. A model that has never seen a line break has neither BOS nor EOS:
    then the text's first token is not scored, since nothing is before it, and `sentence` is an error.
    Words outside the vocabulary are scored as <unk> and counted; where the tokenizer can, it also tells how likely their spelling is.
    Raises DataError for an empty text or characters that the tokenizer does not know, AnomalyError for logits that are not finite.
    """
    if not text:
        raise DataError("there is no text to score")
    start = line_break(tokenizer)
    if sentence and not len(start):
        raise ConfigError("the model has never seen a line break, so sentences have no end for it")
    body = tokenizer.encode(text)
    lacking = unknown_in(tokenizer, text, body, 0 if tokenizer.start or len(start) else 1)
    if sentence:
        body = np.concatenate([body, start])
    before = np.array(tokenizer.start or start[-1:].tolist(), np.int64)
    ids = np.concatenate([before, body])
    scored = body if len(before) else body[1:]
    texts = token_texts(tokenizer, body.tolist())[len(body) - len(scored) :]
    size = len(text.encode("utf-8")) + (len("\n") if sentence else 0)
    if not len(before):
        size -= tokenizer.first_bytes(text)
    log_p = token_log_probabilities(model, ids, device)[max(len(before) - 1, 0) :]
    return Score(text, texts, log_p, lacking.unknown, size, lacking.nats, lacking.own)


def line_break(tokenizer: Tokenizer) -> np.ndarray:
    """Returns the ids of a line break; none if the tokenizer cannot express one."""
    try:
        ids = tokenizer.encode("\n")
    except DataError:
        return np.zeros(0, np.int64)
    return ids if tokenizer.unknown_id not in ids.tolist() else np.zeros(0, np.int64)


def forbidden_ids(tokenizer: Tokenizer, vocab_size: int) -> list[int]:
    """Returns the ids that a model with vocab_size ids must not generate: <unk>, and those beyond the tokenizer's own, which
    are padding of the embedding."""
    unknown = [] if tokenizer.unknown_id is None else [tokenizer.unknown_id]
    return [*unknown, *range(tokenizer.vocab_size, vocab_size)]
