"""The interface of neural language models, for training, scoring and generation, and what GPT and Llama have in common."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from tinylm import nn, ops
from tinylm.engine.recompute import recompute
from tinylm.engine.stored_weights import Weights
from tinylm.engine.tensor import Tensor
from tinylm.errors import ShapeError
from tinylm.providers import provided

# So many of the last positions go through the output layer where only the last one's logits are asked for. A product of fewer rows
# may add up in another order: with these the logits are those of all positions, to the last bit.
LAST = 32

State = TypeVar("State", Tensor, nn.KeyValueCache)  # a model's state is a list of: a recurrent model's h (and c), a Transformer's caches


class LanguageModel(nn.Module, Generic[State]):
    """A model of the next token: p(ids[t + 1] | ids[..t]) = softmax(logits[t]).

    vocab_size: how many tokens there are.  block_size: the longest context it can attend to, None
    for a recurrent model, whose context is carried in its state.
    """

    vocab_size: int
    block_size: int | None

    def advance(self, ids: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """Returns (logits (N, T, vocab_size), state) for ids (N, T) that follow what `state` has seen; None starts afresh."""
        raise NotImplementedError(f"{type(self).__name__} has no advance")

    def logits(self, ids: Tensor) -> Tensor:
        """Returns the logits of `advance` from a fresh start, without a state to go on with: for training and validation."""
        return self.advance(ids)[0]

    def advance_to_last(self, ids: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State]]:
        """Returns (logits (N, vocab_size) after the last of the ids, state): those of `advance`, without all the others' cost."""
        logits, state = self.advance(ids, state)
        return logits[:, -1], state

    def read(self, ids: Tensor, state: list[State] | None = None) -> list[State]:
        """Returns the state of `advance` alone, without any logits."""
        return self.advance(ids, state)[1]

    def loss(self, ids: Tensor, targets: Tensor, state: list[State] | None = None) -> tuple[Tensor, list[State] | None]:
        """Returns (training loss, state): the mean of -log p(targets), ids and targets (N, T). Only a recurrent model
        takes a state and returns one."""
        logits, state = self.advance(ids, state) if self.block_size is None else (self.logits(ids), None)
        return ops.cross_entropy(logits, targets), state


class DecoderOnlyModel(LanguageModel[nn.KeyValueCache]):
    """What GPT and Llama have in common: a sequence of blocks, each with a cache of its keys and values in decoding.

    checkpoint_activations: in training a block stores only its input and runs again in the backward pass.
    """

    checkpoint_activations = False
    block_size: int

    def blocks(self) -> nn.ModuleList:
        """Returns the layers, in order."""
        raise NotImplementedError(f"{type(self).__name__} has no blocks")

    def forward(self, ids: Tensor, cache: Sequence[nn.KeyValueCache] | None = None, last: int | None = None) -> Tensor:
        """Returns logits (N, T, vocab_size) of ids (N, T).

        cache: for step-by-step decoding, one per layer; ids are then the continuation of what it has seen.
        last: only the logits of so many last positions, (N, last, vocab_size); of all if they are fewer.
        Raises ShapeError if positions pass block_size, RangeError for ids outside the vocabulary.
        """
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def logits(self, ids: Tensor) -> Tensor:
        """As LanguageModel.logits, without caches."""
        return self.forward(ids)

    def first_position(self, ids: Tensor, cache: Sequence[nn.KeyValueCache] | None) -> int:
        """Returns the position of ids[:, 0], after those that the cache has seen. Raises ShapeError if ids (N, T) do not fit."""
        past, ids = cache[0].length if cache else 0, Tensor.as_tensor(ids)  # which says what text should have been
        if ids.ndim != 2 or past + ids.shape[1] > self.block_size:
            name, after = type(self).__name__, f" after {past}" if past else ""
            raise ShapeError(f"{name}: ids have shape {ids.shape}{after}, expected (N, T) within a block_size of {self.block_size}")
        return past

    def through_blocks(self, x: Tensor, cache: Sequence[nn.KeyValueCache] | None) -> Tensor:
        """Returns x (N, T, C) after every block; each appends the new positions to its cache, if there is one."""
        for i, block in enumerate(self.blocks()):
            if self.checkpoint_activations and self.training and cache is None:
                x = recompute(block, x)
            else:
                x = block(x, None if cache is None else cache[i])
        return x

    def advance(self, ids: Tensor, state: list[nn.KeyValueCache] | None = None) -> tuple[Tensor, list[nn.KeyValueCache]]:
        """As LanguageModel.advance; the state is one KeyValueCache per layer."""
        cache = self._continued(state)
        return self.forward(ids, cache), cache

    def advance_to_last(self, ids: Tensor, state: list[nn.KeyValueCache] | None = None) -> tuple[Tensor, list[nn.KeyValueCache]]:
        """As LanguageModel.advance_to_last."""
        cache = self._continued(state)
        return self.forward(ids, cache, LAST)[:, -1], cache

    def _continued(self, state: list[nn.KeyValueCache] | None) -> list[nn.KeyValueCache]:
        """Returns caches that can be extended without changing the state, which may be None."""
        return [c.copy() for c in state] if state else [nn.KeyValueCache() for _ in self.blocks()]

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, weights: Weights = "float32") -> Self:
        """Returns a model of a Hugging Face folder or a GGUF file, in evaluation mode. weights: float32, which can be trained; or
        "stored", as the file has the matrices: in a fraction of the memory, and only to be read.

        Raises CheckpointError naming what is missing, unexpected, misshapen or unsupported.
        """
        return provided("from_pretrained")(cls, Path(folder), weights)

    def save_pretrained(self, folder: str | Path, tokenizer: Any = None) -> None:
        """Writes config.json, model.safetensors and, for a given tokenizer, tokenizer.json, as Hugging Face has them.

        A GPT without biases gets biases of zero there, and a Llama's query and key rows the order of rope_pairing="half".
        Raises CheckpointError if a file cannot be written.
        """
        provided("save_pretrained")(self, Path(folder), tokenizer)

    def save_gguf(self, path: str | Path, tokenizer: Any = None) -> None:
        """Writes one GGUF file, which llama.cpp opens, with float32 weights and, for a given tokenizer, what describes it.

        Raises CheckpointError if it cannot be written; ConfigError for a tokenizer, or frequencies of rotary positions, that such
        a file cannot hold.
        """
        provided("save_gguf")(self, Path(path), tokenizer)
