"""A pretrained model beside Hugging Face's own of the same weights, for `parity.compare`. Needs PyTorch and transformers."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.errors import ConfigError
from tinylm.models import GPT, Llama
from tinylm.pretrained.hugging_face import config_json
from tinylm.pretrained.model_loading import load_pretrained
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer

TEXT = "The capital of Germany is Berlin."


def twins_of_pretrained(path: Path) -> tuple[GPT | Llama, Any, list[Any]]:
    """(our model, theirs, a batch of one short text) of what `pretrained.find` found."""
    ours, tokenizer = load_pretrained(path)
    return ours, their_twin(ours), [_ids(tokenizer)]


def _ids(tokenizer: PretrainedTokenizer) -> np.ndarray:
    return np.array([[*tokenizer.start, *tokenizer.encode(TEXT).tolist()]])


def their_twin(model: GPT | Llama) -> Any:
    """Hugging Face's model with the same weights under the same names: ids -> logits.

    GPT-2's Conv1D layers become linear ones, so that weights are (out, in) on both sides. Their norms and rotary angles
    are float32 in a float64 model, too; there they are replaced by the same formulas in float64.
    Errors: ConfigError when transformers is not installed, or for pairs that it does not have.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what it imports in turn
            warnings.simplefilter("ignore", FutureWarning)
            import transformers
    except ImportError as error:
        raise ConfigError("transformers is not installed: pip install 'tinylm[test]'") from error
    record = config_json(model) | {"attn_implementation": "sdpa"}
    if isinstance(model, GPT):
        theirs = _gpt_class()(transformers.GPT2Config(**record))
        for module in list(theirs.modules()):
            for name, child in list(module.named_children()):
                if type(child).__name__ == "Conv1D":
                    setattr(module, name, torch.nn.Linear(*child.weight.shape))
        theirs.transformer.wpe.__class__ = type("Embedding", (torch.nn.Embedding,), {"forward": _first})  # theirs has a batch axis
    else:
        if model.config.rope_pairing != "half":
            raise ConfigError(f"rope_pairing is {model.config.rope_pairing!r}: Hugging Face's Llama has 'half'")
        theirs = _llama_class()(transformers.LlamaConfig(**record))
        make_exact(theirs, model.config.frequencies)
    state = {name: torch.from_numpy(np.asarray(a)) for name, a in model.state_dict().items()}
    if isinstance(model, GPT) and not model.config.bias:
        state |= {name: torch.zeros(p.shape) for name, p in theirs.state_dict().items() if name not in state}
    theirs.load_state_dict(state)
    return theirs.eval()


def _first(self: Any, positions: Any) -> Any:
    """The embeddings of positions (1, T) as (T, C)."""
    return self.weight[positions[0]]


def _gpt_class() -> Any:
    from transformers import GPT2LMHeadModel

    return _logits_only(GPT2LMHeadModel)


def _llama_class() -> Any:
    from transformers import LlamaForCausalLM

    return _logits_only(LlamaForCausalLM)


def _logits_only(kind: Any) -> Any:
    """The class whose call takes ids and returns nothing but logits."""

    def forward(self: Any, ids: Any) -> Any:
        return kind.forward(self, input_ids=ids, use_cache=False).logits

    return type(kind.__name__, (kind,), {"forward": forward})


def make_exact(theirs: Any, frequencies: tuple[float, ...]) -> None:
    """Gives a Llama of theirs norms and rotary angles that are float64 in a float64 model. frequencies: LlamaConfig's."""
    exact = _exact()
    for module in theirs.modules():
        module.__class__ = exact.get(type(module).__name__, module.__class__)
    theirs.model.rotary_emb.exact_frequencies = frequencies


def _exact() -> dict[str, Any]:
    """Their norm and rotary angles, by name, in float64 where the model is."""
    import torch
    from transformers.models.llama import modeling_llama

    class LlamaRMSNorm(modeling_llama.LlamaRMSNorm):
        def forward(self, x: Any) -> Any:
            if x.dtype != torch.float64:
                return super().forward(x)
            return torch.nn.functional.rms_norm(x, self.weight.shape, self.weight, self.variance_epsilon)

    class LlamaRotaryEmbedding(modeling_llama.LlamaRotaryEmbedding):
        def forward(self, x: Any, position_ids: Any) -> Any:
            if x.dtype != torch.float64:
                return super().forward(x, position_ids)
            angles = position_ids[..., None].double() * torch.tensor(self.exact_frequencies, dtype=torch.float64)
            twice = torch.cat((angles, angles), -1)
            return twice.cos(), twice.sin()

    return {kind.__name__: kind for kind in (LlamaRMSNorm, LlamaRotaryEmbedding)}
