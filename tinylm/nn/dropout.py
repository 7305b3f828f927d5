"""The dropout layer."""

from tinylm import ops
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.nn.modules import Module


class Dropout(Module):
    """Zeroes each element with probability p and scales the rest by 1/(1 - p); nothing in eval mode."""

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ConfigError(f"dropout probability {p} is out of range: expected 0 to 1")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p) if self.training and self.p > 0 else x

    def extra_repr(self) -> str:
        return f"p={self.p}"
