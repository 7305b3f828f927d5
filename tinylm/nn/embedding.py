"""The embedding table."""

from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.nn import init
from tinylm.nn.modules import Module


class Embedding(Module):
    """Row ids[...] of a table: weight (num_embeddings, embedding_dim), initially N(0, 1).

    The row padding_idx starts at zero and gets no gradient.  ids (...) -> (..., embedding_dim).
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> None:
        super().__init__()
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ConfigError(f"padding_idx {padding_idx} is out of range for {num_embeddings} embeddings")
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        self.weight = init.normal((num_embeddings, embedding_dim))
        if self.padding_idx is not None:
            self.weight.data[self.padding_idx] = 0

    def forward(self, ids: Tensor) -> Tensor:
        return ops.embedding(ids, self.weight, padding_idx=self.padding_idx)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
