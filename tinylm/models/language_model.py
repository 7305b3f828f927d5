"""What training, scoring and generation ask of every neural language model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tinylm import nn, ops
from tinylm.engine.recompute import recompute
from tinylm.engine.tensor import Tensor
from tinylm.providers import provided


class LanguageModel(nn.Module):
    """A model of the next token: p(ids[t + 1] | ids[..t]) = softmax(logits[t]).

    vocab_size: how many tokens there are.  block_size: the longest context it can look at, None
    for a recurrent model, whose context is carried in its state.
    """

    vocab_size: int
    block_size: int | None

    def advance(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(logits (N, T, vocab_size), state) for ids (N, T) that follow what `state` has seen.

        A state of None starts afresh. Models that keep none return None.
        """
        raise NotImplementedError(f"{type(self).__name__} has no advance")

    def logits(self, ids: Tensor) -> Tensor:
        """The logits of `advance` from a fresh start, for training and validation: nothing is kept to go on with."""
        return self.advance(ids)[0]

    def read(self, ids: Tensor, state: Any = None) -> Any:
        """The state of `advance` alone, without any logits."""
        return self.advance(ids, state)[1]

    def loss(self, ids: Tensor, targets: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """(what training makes smaller, state): the mean of -log p(targets), both (N, T). Only a recurrent model
        takes a state and gives one."""
        logits, state = self.advance(ids, state) if self.block_size is None else (self.logits(ids), None)
        return ops.cross_entropy(logits, targets), state


class DecoderOnlyModel(LanguageModel):
    """What GPT and Llama share: a pile of blocks, each with a cache of its keys and values in decoding.

    checkpoint_activations: in training a block keeps only its input, and runs again in the backward pass.
    """

    checkpoint_activations = False

    def blocks(self) -> nn.ModuleList:
        """The layers, in order."""
        raise NotImplementedError(f"{type(self).__name__} has no blocks")

    def forward(self, ids: Tensor, cache: Sequence[nn.KeyValueCache] | None = None) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def logits(self, ids: Tensor) -> Tensor:
        """As LanguageModel.logits, without caches."""
        return self.forward(ids)

    def through_blocks(self, x: Tensor, cache: Sequence[nn.KeyValueCache] | None) -> Tensor:
        """x (N, T, C) after every block; each takes up the new positions in its cache, if there is one."""
        for i, block in enumerate(self.blocks()):
            if self.checkpoint_activations and self.training and cache is None:
                x = recompute(block, x)
            else:
                x = block(x, None if cache is None else cache[i])
        return x

    def advance(self, ids: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As LanguageModel.advance; the state is a KeyValueCache for each layer."""
        cache = [c.copy() for c in state] if state else [nn.KeyValueCache() for _ in self.blocks()]
        return self.forward(ids, cache), cache

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Returns a model of a Hugging Face folder or a GGUF file, in evaluation mode and float32.

        Raises CheckpointError naming what is missing, unexpected, misshapen or unsupported.
        """
        return provided("from_pretrained")(cls, Path(folder))

    def save_pretrained(self, folder: str | Path, tokenizer: Any = None) -> None:
        """Writes config.json, model.safetensors and, for a given tokenizer, tokenizer.json, as Hugging Face has them.

        A GPT without biases gets biases of zero there, and a Llama's query and key rows the order of rope_pairing="half".
        Raises CheckpointError if a file cannot be written.
        """
        provided("save_pretrained")(self, Path(folder), tokenizer)
