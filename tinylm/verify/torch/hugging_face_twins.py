"""A pretrained model and Hugging Face's own of the same weights, for `compare`. Importing this file imports PyTorch and transformers."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tinylm import models
from tinylm.errors import ConfigError
from tinylm.models import GPT, Llama
from tinylm.pretrained.hugging_face import config_json
from tinylm.pretrained.model_loading import load_pretrained

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of what it imports in turn
    warnings.simplefilter("ignore", FutureWarning)
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
    from transformers.models.llama import modeling_llama

TEXT = "The capital of Germany is Berlin."


def twins_of_pretrained(path: Path) -> tuple[GPT | Llama, Any, list[Any]]:
    """Returns (the tinylm model, Hugging Face's, a batch of one short text) of what `find_pretrained` found."""
    ours, tokenizer = load_pretrained(path)
    return ours, their_twin(ours), [np.array([[*tokenizer.start, *tokenizer.encode(TEXT).tolist()]])]


def their_twin(model: GPT | Llama) -> Any:
    """Returns Hugging Face's model with the same weights under the same names: ids -> logits.

    GPT-2's Conv1D layers become linear ones, so that weights are (out, in) on both sides. Their norms and rotary angles
    are float32 in a float64 model too; here they are replaced by the same formulas in float64.
    Raises ConfigError for a pairing of rotary positions that transformers does not have.
    """
    record = config_json(model) | {"attn_implementation": "sdpa"}
    if isinstance(model, GPT):
        theirs = _logits_only(GPT2LMHeadModel)(GPT2Config(**record))
        for module in list(theirs.modules()):
            for name, child in list(module.named_children()):
                if type(child).__name__ == "Conv1D":
                    setattr(module, name, torch.nn.Linear(*child.weight.shape))
        without_batch = {"forward": lambda self, positions: self.weight[positions[0]]}  # (1, T) -> (T, C); theirs has a batch axis
        theirs.transformer.wpe.__class__ = type("Embedding", (torch.nn.Embedding,), without_batch)
    else:
        if model.config.rope_pairing != "half":
            raise ConfigError(f"rope_pairing is {model.config.rope_pairing!r}: Hugging Face's Llama has 'half'")
        theirs = _logits_only(LlamaForCausalLM)(LlamaConfig(**record))
        make_exact(theirs, model.config)
    state = {name: torch.from_numpy(np.asarray(a)) for name, a in model.state_dict().items()}
    if isinstance(model, GPT) and not model.config.bias:
        state |= {name: torch.zeros(p.shape) for name, p in theirs.state_dict().items() if name not in state}
    theirs.load_state_dict(state)
    return theirs.eval()


def _logits_only(kind: Any) -> Any:
    """Returns the class whose call takes ids and returns nothing but logits."""

    def forward(self: Any, ids: Any) -> Any:
        return kind.forward(self, input_ids=ids, use_cache=False).logits

    return type(kind.__name__, (kind,), {"forward": forward})


class _RMSNorm(modeling_llama.LlamaRMSNorm):
    def forward(self, x: Any) -> Any:
        if x.dtype != torch.float64:
            return super().forward(x)
        return torch.nn.functional.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)


class _RotaryEmbedding(modeling_llama.LlamaRotaryEmbedding):
    exact_config: models.LlamaConfig

    def forward(self, x: Any, position_ids: Any) -> Any:
        if x.dtype != torch.float64:
            return super().forward(x, position_ids)
        frequencies = self.exact_config.frequencies_at(int(position_ids.max()) + 1)
        angles = position_ids[..., None].double() * torch.tensor(frequencies, dtype=torch.float64)
        twice = torch.cat((angles, angles), -1)
        return twice.cos() * self.exact_config.rope_attention, twice.sin() * self.exact_config.rope_attention


_EXACT = {"LlamaRMSNorm": _RMSNorm, "LlamaRotaryEmbedding": _RotaryEmbedding}


def make_exact(theirs: Any, config: models.LlamaConfig) -> None:
    """Gives a Llama of Hugging Face's norms and rotary angles that are float64 in a float64 model. config: of the same model here."""
    for module in theirs.modules():
        module.__class__ = _EXACT.get(type(module).__name__, module.__class__)
    theirs.model.rotary_emb.exact_config = config
