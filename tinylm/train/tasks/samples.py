"""What a language model says while it is trained."""

from collections.abc import Sequence

import numpy as np

from tinylm.data.tokenizers import Tokenizer
from tinylm.decode.scoring import line_break
from tinylm.decode.texts import stream_text
from tinylm.models import LanguageModel


def sample_text(model: LanguageModel, tokenizer: Tokenizer, begin: Sequence[int], device: str, random: np.random.Generator) -> str:
    """Returns a text of some lines that the model writes after a line break, at temperature 0.8: 200 characters, or 60 longer tokens.

    begin: the ids to begin with where the tokenizer has no line break. random: what the tokens are drawn from.
    """
    start = line_break(tokenizer).tolist() or list(begin)
    tokens = 200 if tokenizer.kind == "char" else 60
    return "".join(stream_text(model, tokenizer, start, tokens, device=device, random=random))
