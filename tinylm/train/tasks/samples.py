"""What a language model says while it is trained."""

from collections.abc import Sequence

import numpy as np

from tinylm.data.tokenizers import StreamDecoder, Tokenizer
from tinylm.decode.sampling import Sampling, generate
from tinylm.decode.scoring import forbidden_ids, line_break
from tinylm.models import LanguageModel


def sample_text(model: LanguageModel, tokenizer: Tokenizer, begin: Sequence[int], device: str, random: np.random.Generator) -> str:
    """Returns a text of some lines that the model writes after a line break, at temperature 0.8: 200 characters, or 60 longer tokens.

    begin: the ids to begin with where the tokenizer has no line break. random: what the tokens are drawn from.
    """
    start = line_break(tokenizer).tolist() or list(begin)
    decoder = StreamDecoder(tokenizer, start)
    drawn = generate(
        model, start, 200 if tokenizer.kind == "char" else 60, Sampling(temperature=0.8), device=device, random=random,
        forbidden=forbidden_ids(tokenizer, model.vocab_size), ends=tokenizer.ends,
    )  # fmt: skip
    return "".join([*map(decoder.push, drawn), decoder.finish()])
