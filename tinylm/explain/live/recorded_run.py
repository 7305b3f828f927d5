"""One text as a model read it, for a live page that cannot compute the model itself."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinylm.data.tokenizers import Tokenizer, token_texts
from tinylm.decode.stepping import evaluating, log_softmax
from tinylm.engine.autograd import no_grad
from tinylm.engine.devices import to_numpy
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.explain.activations import Activations, cache, names
from tinylm.explain.gates import is_recurrent
from tinylm.explain.questions.readout import readout
from tinylm.explain.reading import ClassifierReading, Reading
from tinylm.models.classifier import BagClassifier, LinearClassifier

_LARGEST = 1_500_000  # numbers that are kept of arrays, 2 bytes each
_LONGEST = 256  # tokens of a text whose attention is kept
_POSITIONS = 64  # whose logits are computed at once
# What is kept, the first first: attention, then states and gates.
_KEPT = (".attn.pattern", ".cross.pattern", ".h", ".c", ".forget", ".update", ".input", ".output", ".reset", ".candidate")


def recorded_run(reading: Reading) -> dict[str, Any]:
    """Returns what recorded.js shows of a reading:

    parts: [{prefix, title, tokens, sources}], one of a language model or classifier, two of a translator; values: attention and the
    gates and states of recurrent layers, under the names of `explain.names`, as float16 in base64, as far as _LARGEST goes, and
    `omitted`, the names of those beyond; norms: of the residual streams, one number per position; post_norm: whether these are taken
    after the norms; for a language model ids, losses of each token but the first, `predictions` and `lens`, of each position the
    likeliest tokens (see `_likeliest`); logit of a classifier, of more than two
    classes that of the label against all others, and what each word of a bag or a linear model adds to it, with the formula.
    """
    model = reading.model
    known = names(model)
    arrays = [name for name in known if name.endswith(".pattern") or is_recurrent(name)]
    kept = [name for ending in _KEPT for name in arrays if name.endswith(ending)]
    if len(reading.ids) > _LONGEST:
        kept = [name for name in kept if not name.endswith(".pattern")]
    streams = [name for name in known if name.endswith(("resid_pre", "resid_mid", "resid_post"))]
    with cache(model, [*kept, *streams]) as seen:
        output = to_numpy(reading.output().data)
        values = _packed(seen, kept)
        run: dict[str, Any] = {
            "parts": list(_parts(reading, known)), "values": values, "omitted": [name for name in arrays if name not in values],
            "norms": {name: np.linalg.norm(to_numpy(seen[name].data)[0], axis=-1).astype(float).round(4).tolist() for name in streams},
            "post_norm": not any(name.endswith(".norm_1") for name in known),
        }  # fmt: skip
        if isinstance(reading, ClassifierReading):
            place = reading.labels.index(reading.label)
            adds = _added_by_words(model, reading.ids, place)
            return run | {"logit": _log_odds(output[0], place), "adds": adds, "formula": _formula(model)}
        if reading.tokenizer is None:
            return run | {"sentence": f"Loss {reading.loss().item():.4f} {reading.about}."}
        return run | _as_language_model(reading, output[0], seen, streams)


def _packed(seen: Activations, kept: list[str]) -> dict[str, Any]:
    """Returns the activations that have room, in this order."""
    values, room = {}, _LARGEST
    for name in kept:
        array = to_numpy(seen[name].data)[0].astype("<f2")
        if array.size <= room:
            room -= array.size
            values[name] = {"shape": list(array.shape), "data": base64.b64encode(array.tobytes()).decode("ascii")}
    return values


def _parts(reading: Reading, known: list[str]) -> Iterator[dict[str, Any]]:
    if reading.tokenizer is not None:
        prefixes = sorted({name[: name.index(".", 8) + 1] for name in known if name.startswith("members.")}, key=lambda p: int(p[8:-1]))
        tokens = reading.tokens("")[1]
        for i, prefix in enumerate(prefixes or [""]):
            yield {"prefix": prefix, "title": f"member {i}", "tokens": tokens, "sources": None}
        return
    source = reading.tokens("encoder")[1]
    yield {"prefix": "encoder.", "title": "the encoder", "tokens": source, "sources": None}
    yield {"prefix": "decoder.", "title": "the decoder", "tokens": reading.tokens("decoder")[1], "sources": source}


# ---------------------------------------------------------------- language models


def _as_language_model(reading: Reading, logits: np.ndarray, seen: Activations, streams: list[str]) -> dict[str, Any]:
    log_p = log_softmax(logits)
    ids = reading.ids
    losses = -log_p[np.arange(len(ids) - 1), ids[1:]]
    shown = [name for name in streams if name.endswith("resid_post") or name == streams[0]]
    spelt = _Spelling(reading.tokenizer)
    lens = {name: found for name in shown if (found := _lens(reading, seen[name], spelt)) is not None}
    return {
        "ids": ids.tolist(),
        "vocab_size": logits.shape[1],
        "losses": losses.round(6).tolist(),
        "predictions": _likeliest(reading, log_p, 10, spelt),
        "lens": lens,
    }


class _Spelling(dict[int, str]):
    """What a token spells inside a text, by its id. A model may have more outputs than its tokenizer has tokens."""

    def __init__(self, tokenizer: Tokenizer | None) -> None:
        assert tokenizer is not None
        self.tokenizer = tokenizer

    def __missing__(self, i: int) -> str:
        self[i] = token_texts(self.tokenizer, [i, i])[1] if i < self.tokenizer.vocab_size else f"<{i}>"
        return self[i]


def _likeliest(reading: Reading, log_p: np.ndarray, count: int, spelt: _Spelling, first: int = 0) -> list[dict[str, Any]]:
    """Returns for each position from `first` on {top: [[token, probability]], right: [token, probability, rank] or None}."""
    found = []
    for t, row in enumerate(log_p, first):
        top = np.argpartition(-row, min(count, len(row)) - 1)[:count]
        top = top[np.argsort(-row[top], kind="stable")]
        right = None
        if t + 1 < len(reading.ids):
            i = int(reading.ids[t + 1])
            right = [reading.tokens("")[1][t + 1], round(float(np.exp(row[i])), 6), int((row > row[i]).sum()) + 1]
        found.append({"top": [[spelt[i], round(float(np.exp(row[i])), 6)] for i in top.tolist()], "right": right})
    return found


def _lens(reading: Reading, stream: Tensor, spelt: _Spelling) -> list[dict[str, Any]] | None:
    """Returns the likeliest tokens of a residual stream (1, T, C) by the logit lens, some positions after the others, since a large
    vocabulary has large logits; None for models without an output layer that reads one stream."""
    found: list[dict[str, Any]] = []
    with no_grad(), evaluating(reading.model.modules()):
        for first in range(0, stream.shape[1], _POSITIONS):
            try:
                logits = readout(reading.model, stream[:, first : first + _POSITIONS])
            except ConfigError:
                return None
            found += _likeliest(reading, log_softmax(to_numpy(logits.data)[0]), 3, spelt, first)
    return found


# ---------------------------------------------------------------- bags of words


def _log_odds(output: np.ndarray, label: int) -> float:
    """Returns the logit of class 1, or of more than two classes log p(label) - log (1 - p(label))."""
    if output.ndim == 0:
        return float(output)
    others = np.delete(output.astype(np.float64), label)
    return float(output[label] - np.logaddexp.reduce(others))


def _formula(model: Any) -> str:
    """Returns what `_added_by_words` computes, as the page says it."""
    return "s V" if any(isinstance(module, LinearClassifier) for module in model.modules()) else "w · r E / √n"


def _added_by_words(model: Any, ids: np.ndarray, label: int) -> list[float] | None:
    """Returns what each word of a text adds to the logit of bags of words and linear models, the mean over the members: w · r_i E_i / √n
    or s_i V_i of its own row and of the pair that it ends; of more than two classes to the logit of the label. None for other
    classifiers."""
    members = [member for member in getattr(model, "members", [model]) if isinstance(member, BagClassifier | LinearClassifier)]
    if not members:
        return None
    total = np.zeros(len(ids))
    for member in members:
        each = _row_values(member, ids, label if member.classes > 2 else 0)
        total += each[: len(ids)] + np.concatenate([[0.0], each[len(ids) :]])
    return (total / len(members)).tolist()


def _row_values(member: BagClassifier | LinearClassifier, ids: np.ndarray, output: int) -> np.ndarray:
    """Returns what each row adds to a logit, those of the words and then those of the pairs."""
    rows = member.rows(np.array([ids]))[0]
    table = to_numpy(member.encoder.weight.data)
    if isinstance(member, LinearClassifier):
        present = member.present(np.array([ids]), np.ones((1, len(ids)), bool))[0]
        return to_numpy(member.scale.data)[rows] * table[rows, output] * present
    ratios, w = (to_numpy(tensor.data) for tensor in (member.ratios, member.decoder.weight))
    return ratios[rows] * (table[rows] @ w[output]) / np.sqrt(len(rows))
