"""The names of a model's activations, and the module whose forward pass makes each of them."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from tinylm import nn
from tinylm.errors import ConfigError
from tinylm.explain.forward.attention import INSIDE, OF_HEADS, multihead
from tinylm.explain.forward.blocks import GPT_NAMES, LLAMA_NAMES, gpt_block, llama_block
from tinylm.explain.forward.recurrent import recurrent, recurrent_names
from tinylm.explain.forward.taps import Site, Written
from tinylm.explain.forward.transformer_layers import decoder_layer, encoder_layer, layer_names
from tinylm.models import GPT, Llama, RNNModel, TransformerModel
from tinylm.models.classifier import BagClassifier, Ensemble, LinearClassifier, LSTMClassifier, TransformerClassifier
from tinylm.models.gpt import Block
from tinylm.models.llama import LlamaBlock
from tinylm.models.translator import RecurrentTranslator, Translator
from tinylm.nn import Module

_INSIDE: list[tuple[type, Written, Callable[[Any], Sequence[str]]]] = [  # modules written out, with those within them, and the names
    (Block, gpt_block, lambda block: GPT_NAMES),
    (LlamaBlock, llama_block, lambda block: LLAMA_NAMES),
    (nn.TransformerEncoderLayer, encoder_layer, layer_names),
    (nn.TransformerDecoderLayer, decoder_layer, layer_names),
    *((kind, recurrent, recurrent_names) for kind in (nn.RNN, nn.LSTM, nn.GRU)),
    (nn.MultiheadAttention, multihead, lambda layer: (*INSIDE, *OF_HEADS)),
]

_FIRST = True  # the time comes first in what goes in or out: (T, N, ...)
_Outside = tuple[str, str, str, bool]  # the path of a module, the name of its input, the name of its result, and _FIRST or not
_RECURRENT: list[_Outside] = [("encoder", "", "embed", _FIRST), ("decoder", "", "logits", _FIRST)]
_CLASSIFIER: list[_Outside] = [("encoder", "", "embed", _FIRST), ("decoder", "pooled", "", False), ("", "", "logits", False)]

_OUTSIDE: dict[type, list[_Outside]] = {  # in the order of the computation
    GPT: [
        ("transformer.wte", "", "embed", False), ("transformer.wpe", "", "pos_embed", False),
        ("transformer.ln_f", "", "norm_f", False), ("lm_head", "", "logits", False),
    ],
    Llama: [("model.embed_tokens", "", "embed", False), ("model.norm", "", "norm_f", False), ("lm_head", "", "logits", False)],
    TransformerModel: _RECURRENT,
    RNNModel: _RECURRENT,
    LinearClassifier: [("encoder", "", "embed", False), _CLASSIFIER[2]],
    BagClassifier: [("encoder", "", "embed", False), *_CLASSIFIER[1:]],
    LSTMClassifier: _CLASSIFIER,
    TransformerClassifier: [_CLASSIFIER[0], ("transformer_encoder.norm", "", "norm_f", _FIRST), *_CLASSIFIER[1:]],
    Ensemble: [("", "", "logits", False)],
    Translator: [
        ("encoder.norm", "", "encoder.norm_f", _FIRST), ("decoder.norm", "", "decoder.norm_f", _FIRST), ("", "", "logits", False),
    ],
    RecurrentTranslator: [("encoder", "encoder.embed", "", _FIRST), ("decoder", "decoder.embed", "", _FIRST), ("", "", "logits", False)],
}  # fmt: skip


def sites(model: Module) -> list[Site]:
    """Returns the modules of a model whose forward passes make activations that have names; a name belongs to one of them.

    A module that stands at several paths has the names of the first. Raises ConfigError for something else than a model."""
    if not isinstance(model, Module):
        raise ConfigError(f"got {type(model).__name__}: expected a model, a Module")
    found: dict[str, Site] = {}
    modules = dict(model.named_modules())
    first = {id(module): path for path, module in reversed(modules.items())}
    for path, module in modules.items():
        if first[id(module)] != path:
            continue
        for kind, written, names in _INSIDE:
            if _runs_as(module, kind) and not any(site.written and path.startswith(f"{above}.") for above, site in found.items()):
                prefix = _short(path)
                if written is recurrent and path.rpartition(".")[2] != "rnn":
                    prefix += "rnn."
                site = found.setdefault(path, Site(module))
                site.written, site.prefix, site.inside = written, prefix, tuple(names(module))
        for kind, outside in _OUTSIDE.items():
            for part, before, after, late in outside if _runs_as(module, kind) else ():
                where = ".".join(filter(None, (path, part)))
                site = found.setdefault(where, Site(modules[where]))
                site.before, site.after = (f"{path}.{name}" if path and name else name for name in (before, after))
                site.sequence_first = late
    return list(found.values())


def _runs_as(module: Module, kind: type[Module]) -> bool:
    """Whether the module is of this kind, and its class has not replaced the kind's forward pass."""
    return isinstance(module, kind) and type(module).forward is kind.forward


def _short(path: str) -> str:
    """Returns what precedes the names inside a module: 'h.2.' for 'transformer.h.2'; another path as it is."""
    path = re.sub(r"(^|\.)(?:transformer\.h|model\.layers|transformer_encoder\.layers|layers)\.(\d+)$", r"\1h.\2", path)
    return f"{path}." if path else ""


def in_order(names: list[str]) -> list[str]:
    """Returns the names in the order of the computation: the parts of a model one after the other, each from its embedding on."""
    part = {name: found[0] if (found := re.match(r"members\.\d+|encoder|decoder", name)) else "~" for name in names}  # ~: the whole
    parts = sorted(set(part.values()), key=lambda p: (p == "~", names.index(next(n for n in names if part[n] == p))))
    last = {name: name.rpartition(".")[2] for name in names}
    rank = {**dict.fromkeys(("embed", "pos_embed"), 0), **{name: i for i, name in enumerate(("norm_f", "pooled", "logits"), 2)}}
    return sorted(names, key=lambda name: (parts.index(part[name]), rank.get(last[name], 1)))
