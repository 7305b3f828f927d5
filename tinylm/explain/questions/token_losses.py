"""Which tokens of a text a model predicts badly: the loss of each, beside that of an n-gram model."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from tinylm.data.tokenizers import Tokenizer, token_texts
from tinylm.data.whitespace import UNKNOWN
from tinylm.decode.scoring import score_text
from tinylm.errors import ConfigError
from tinylm.explain.answers import Answer
from tinylm.explain.colored_text import draw_text
from tinylm.explain.figures import Picture
from tinylm.models import LanguageModel, NgramLM

_SHOWN = 12  # tokens of a table
_BEFORE = 12  # characters before a token in a table


@dataclass(frozen=True, repr=False)
class TextLosses(Answer):
    """The loss of each scored token of a text, in nats.

    first: the position in the text of the first scored token: 1 if nothing can stand before the text, else 0.
    losses: of the model; ngram: of the n-gram model on the same tokens, or None.
    """

    tokens: list[str]
    first: int
    losses: np.ndarray
    ngram: np.ndarray | None

    @property
    def gain(self) -> np.ndarray:
        """How much less the model loses than the n-gram model, per token; below 0 where the n-gram model is better."""
        if self.ngram is None:
            raise ConfigError("there is no n-gram model to compare with: expected ngram=")
        return self.ngram - self.losses

    def __repr__(self) -> str:
        return f"TextLosses({len(self.losses)} tokens, mean loss {self.losses.mean():.4f})"

    def __rich__(self) -> Group:
        worst = np.argsort(-self.losses, kind="stable")[:_SHOWN]
        shown: list[Any] = ["the tokens with the highest loss", self._table(worst)]
        unknown = self.tokens[self.first :].count(UNKNOWN)
        some = f", {unknown} of them {UNKNOWN}" if unknown else ""
        lines = [f"mean loss {self.losses.mean():.4f} nats over {len(self.losses)} tokens{some}"]
        if self.ngram is not None:
            order = np.argsort(self.gain, kind="stable")
            for title, places in (
                ("where the n-gram model is better by most", order[: _SHOWN // 2]),
                ("where the model is better by most", order[::-1][: _SHOWN // 2]),
            ):
                shown += ["", title, self._table(places)]
            lines[0] += f"; of the n-gram model {self.ngram.mean():.4f}, which is better at {int((self.gain < 0).sum())} of them"
        return Group(*shown, "", *lines)

    def _table(self, places: np.ndarray) -> Table:
        table = Table("position", "after", "token", "loss", box=None)
        if self.ngram is not None:
            table.add_column("n-gram")
            table.add_column("difference")
        for i in places.tolist():
            before = "".join(self.tokens[max(0, self.first + i - _BEFORE) : self.first + i])[-_BEFORE:]
            cells: list[Any] = [str(self.first + i), Text(repr(before)), Text(repr(self.tokens[self.first + i])), f"{self.losses[i]:.3f}"]
            if self.ngram is not None:
                cells += [f"{self.ngram[i]:.3f}", f"{self.gain[i]:+.3f}"]
            table.add_row(*cells)
        return table


def text_losses(
    model: LanguageModel | NgramLM, tokenizer: Tokenizer, text: str, *, ngram: NgramLM | None = None, device: str = "cpu"
) -> TextLosses:  # fmt: skip
    """Returns -log p of each token of a text in nats, as `tinylm.decode.score_text` has it: after a line break, in windows that
    advance by half a context where the text is longer.

    ngram: a model that counts the same tokens, for comparison. A token at which both lose much is hard by itself; where only the model
    does, it has not learned what a count of the last tokens tells.
    Raises ConfigError if the vocabularies differ; what score_text raises.
    """
    if ngram is not None and ngram.vocab_size != model.vocab_size:
        raise ConfigError(f"the n-gram model has {ngram.vocab_size} tokens and the model {model.vocab_size}: expected the same tokens")
    score = score_text(model, tokenizer, text, device=device)
    other = None if ngram is None else -score_text(ngram, tokenizer, text).log_probabilities
    tokens = token_texts(tokenizer, tokenizer.encode(text).tolist())
    return TextLosses(tokens, len(tokens) - len(score.tokens), -score.log_probabilities, other)


def draw_text_losses(found: TextLosses) -> Picture:
    """Draws the text with each token coloured by its loss, and below, if there is an n-gram model, by the difference: blue
    where the n-gram model is better, orange where the model is. Returns the figure."""
    unscored = np.full(found.first, np.nan)
    values = [("Loss of each token", np.concatenate([unscored, found.losses]), "nats", False)]
    if found.ngram is not None:
        values += [
            ("Loss of the n-gram model", np.concatenate([unscored, found.ngram]), "nats", False),
            ("Orange where the model is better, blue where the n-gram model is", np.concatenate([unscored, found.gain]), "nats", True),
        ]  # fmt: skip
    return draw_text(found.tokens, *values)
