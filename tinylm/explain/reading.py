"""A model reading a text, with its tape: what the pictures of a text are taken from."""

import numpy as np

from tinylm import backend
from tinylm.autograd import set_recording
from tinylm.data.tokenizers import Tokenizer
from tinylm.errors import ConfigError
from tinylm.models import LanguageModel, NgramLM
from tinylm.tensor import Tensor


def text_ids(model: LanguageModel | NgramLM, tokenizer: Tokenizer, text: str) -> np.ndarray:
    """The ids of a text that the model can read at once, at least two.

    Errors: ConfigError for an n-gram model, which has no tape, and for a text too short or too long; DataError for
    characters that the tokenizer does not know.
    """
    if isinstance(model, NgramLM):
        raise ConfigError("an n-gram model counts: it has no gradients, no attention and no gates")
    ids = np.concatenate([np.array(tokenizer.start, np.int64), tokenizer.encode(text)])
    if len(ids) < 2:
        raise ConfigError(f"the text has {len(ids)} tokens: expected at least 2")
    if model.block_size is not None and len(ids) > model.block_size:
        raise ConfigError(f"the text has {len(ids)} tokens: expected at most {model.block_size}, the model's context")
    return ids


def token_texts(tokenizer: Tokenizer, ids: np.ndarray) -> list[str]:
    """Each token as text."""
    return [tokenizer.decode([i]) for i in ids.tolist()]


def read(model: LanguageModel, ids: np.ndarray, device: str = "cpu") -> Tensor:
    """The logits (1, T, vocab_size) with the tape that led to them."""
    with set_recording(True):
        return model.advance(Tensor(backend.to_device(ids[None], device)))[0]
