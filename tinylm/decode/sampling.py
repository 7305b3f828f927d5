"""Drawing text from a language model, a token at a time."""

from collections.abc import Iterator, Sequence

import numpy as np

from tinylm import backend
from tinylm.autograd import no_grad
from tinylm.errors import ConfigError
from tinylm.models import LanguageModel
from tinylm.tensor import Tensor


def next_distribution(logits: np.ndarray, temperature: float = 1.0, top_k: int | None = None, top_p: float = 1.0) -> np.ndarray:
    """softmax(logits / temperature), float64, kept to the top_k likeliest tokens and then to the
    fewest likeliest whose probabilities reach top_p, and rescaled.

    logits (V,).  top_p is nucleus sampling: Holtzman et al. 2019, arXiv:1904.09751, section 3.1.
    Errors: ConfigError for a temperature of 0 or below, top_k outside 1 to V, top_p outside (0, 1].
    """
    if not temperature > 0:
        raise ConfigError(f"temperature {temperature}: expected more than 0")
    if top_k is not None and not 1 <= top_k <= logits.size:
        raise ConfigError(f"top_k {top_k} is out of range: expected 1 to the vocabulary's {logits.size}")
    if not 0 < top_p <= 1:
        raise ConfigError(f"top_p {top_p} is out of range: expected more than 0, at most 1")
    scaled = logits.astype(np.float64) / temperature
    p = np.exp(scaled - scaled.max())
    p /= p.sum()
    order = np.argsort(-p, kind="stable")  # likeliest first, ties by id
    kept = logits.size if top_k is None else top_k
    if top_p < 1:
        reached = np.cumsum(p[order[:kept]]) / p[order[:kept]].sum()
        kept = int(np.searchsorted(reached, top_p * (1 - 1e-12))) + 1
    p[order[kept:]] = 0
    return p / p.sum()


def generate(
    model: LanguageModel,
    prompt: Sequence[int],
    tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    device: str = "cpu",
    random: np.random.Generator | None = None,
) -> Iterator[int]:
    """Yields `tokens` ids that continue the prompt, each drawn from `next_distribution`.

    A context longer than the model's block_size is cut to its last block_size tokens. random: by
    default the next stream of the seeded generator, so the same seed gives the same text.
    """
    if not len(prompt):
        raise ConfigError("the prompt is empty: the model needs at least one token to continue")
    if tokens < 0:
        raise ConfigError(f"tokens {tokens}: expected at least 0")
    random = random or backend.default_generator.numpy()
    context = list(prompt)
    model.eval()
    for _ in range(tokens):
        ids = np.array([context[-model.block_size :] if model.block_size else context], np.int64)
        with no_grad():
            logits, _ = model.advance(Tensor(backend.to_device(ids, device)))
        p = next_distribution(backend.to_numpy(logits.data)[0, -1], temperature, top_k, top_p)
        context.append(int(random.choice(p.size, p=p)))
        yield context[-1]
