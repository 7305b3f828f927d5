"""What context beyond an n-gram model's does for other models: at how many tokens it helps, and where it helps most."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text
from support.tables import screen

from tinylm.data.tokenizers import Tokenizer, token_texts
from tinylm.decode.context import log_probabilities_given
from tinylm.models import LanguageModel, NgramLM

_EXAMPLES = 5
_SHOWN = 100  # tokens before the n-gram model's in an example
_NOTABLE = 0.1  # nats


def beyond_ngram(
    models: Mapping[str, LanguageModel | NgramLM],
    tokenizer: Tokenizer,
    ids: np.ndarray,
    positions: np.ndarray,
    scores: Mapping[str, Mapping[int, np.ndarray]],
    device: str,
) -> dict[str, Any]:
    """Prints for each neural model with a context longer than the n-gram model's by how much the longer context changes log p of the
    true token, and the examples of the model that is best with its longest; returns both for JSON.

    scores: log p at the positions by model and context. The n-gram model is the first of them; without one there is nothing to
    compare with. The examples are the positions where log p with the longer context is most above both that of the same model without it
    and that of the n-gram model: what the n-gram's tokens tell neither.
    """
    ngram = next((name for name, model in models.items() if isinstance(model, NgramLM)), None)
    if ngram is None:
        return {}
    counted = models[ngram]
    assert isinstance(counted, NgramLM)
    window = counted.order - 1
    others = [name for name, model in models.items() if not isinstance(model, NgramLM) and max(scores[name], default=0) > window > 0]
    if not others:
        return {}
    by_ngram = log_probabilities_given(counted, ids, positions, window)
    table = Table(f"beyond {window} tokens", "tokens given", "nats better, mean", f"> {_NOTABLE} better", f"> {_NOTABLE} worse", box=None)
    found: dict[str, Any] = {}
    for name in others:
        longest = max(scores[name])
        near, far = log_probabilities_given(models[name], ids, positions, window, device), scores[name][longest]
        gain = far - near
        chosen = np.argsort(np.maximum(near, by_ngram) - far, kind="stable")[:_EXAMPLES]
        better, worse = int((gain > _NOTABLE).sum()), int((gain < -_NOTABLE).sum())
        share = (f"{100 * n / len(gain):.0f} %" for n in (better, worse))
        table.add_row(Text(name), f"{longest}", f"{gain.mean():.4f}", *share)
        found[name] = {
            "tokens_given": longest, "mean_gain": float(gain.mean()), "better": better, "worse": worse,
            "largest_gain": float(gain.max()), "largest_harm": float(-gain.min()),
            "examples": [
                example(tokenizer, ids, int(positions[i]), window, longest)
                | {"p_ngram": float(np.exp(by_ngram[i])), "p_window": float(np.exp(near[i])), "p_full": float(np.exp(far[i]))}
                for i in chosen
            ],
        }  # fmt: skip
    screen().print()
    screen().print(table)
    best = max(others, key=lambda name: scores[name][max(scores[name])].mean())
    print_examples(best, found[best], ngram, window, len(positions))
    return {"ngram": ngram, "ngram_window": window, "beyond": found}


def example(tokenizer: Tokenizer, ids: np.ndarray, position: int, window: int, longest: int) -> dict[str, Any]:
    """Returns a position of the validation part: the text that only the longer context has, what the n-gram model sees, what comes next."""
    parts = ids[position - longest : position - window], ids[position - window : position], ids[position : position + 1]
    before, inside, after = ("".join(token_texts(tokenizer, part.tolist())) for part in parts)
    return {"position": position, "before": before, "window": inside, "next": after}


def print_examples(name: str, found: dict[str, Any], ngram: str, window: int, count: int) -> None:
    longest = found["tokens_given"]
    print(
        f"\nwhere context beyond {window} tokens helps {name} most: of the {count:,} tokens those where its log p\n"
        f"gains most over the better of two that see [ ]: {ngram}, and itself without the rest; p of the true next token"
    )
    table = Table("position", "text before", "next", "p, n-gram", f"p, {window} given", f"p, {longest} given", box=None)
    for one in found["examples"]:
        before = repr(one["before"][-_SHOWN:])[1:-1]
        text = Text(f"…{before}[{repr(one['window'])[1:-1]}]")
        shares = (f"{one[key]:.4f}" for key in ("p_ngram", "p_window", "p_full"))
        table.add_row(str(one["position"]), text, Text(repr(one["next"])), *shares)
    screen().print(table)
