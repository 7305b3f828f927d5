"""From a long row of token ids to batches of inputs and targets."""

from collections.abc import Iterator

import numpy as np

from tinylm.backend import philox
from tinylm.errors import DataError


def split_ids(ids: np.ndarray, block_size: int, validation: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """(training, validation): the first 1 - validation of the ids, and the rest.

    Errors: DataError when the training part has no block and its targets, or the validation part
    has no target.
    """
    cut = int(len(ids) * (1 - validation))
    if cut < block_size + 1 or len(ids) - cut < 2:
        raise DataError(
            f"the data is too short: {len(ids)} tokens give {cut} for training, where a block of {block_size} "
            f"needs {block_size + 1}, and {len(ids) - cut} for validation, which needs 2"
        )
    return ids[:cut], ids[cut:]


class RandomBlocks:
    """Random stretches of a text: batch k is a function of the seed and k alone, so a run that is
    stopped and resumed sees what it would have seen."""

    def __init__(self, ids: np.ndarray, block_size: int, batch_size: int, seed: int) -> None:
        if len(ids) < block_size + 1:
            raise DataError(f"the data is too short: {len(ids)} tokens, a block of {block_size} needs {block_size + 1}")
        self.ids, self.block_size, self.batch_size, self.seed = ids, block_size, batch_size, seed
        self._offsets = np.arange(block_size + 1)

    def __getitem__(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, targets) of batch k, each (batch_size, block_size); a target is the next input."""
        draw = np.random.Generator(philox((self.seed, k)))
        starts = draw.integers(0, len(self.ids) - self.block_size, self.batch_size)
        rows = self.ids[starts[:, None] + self._offsets]
        return rows[:, :-1], rows[:, 1:]


def consecutive_blocks(ids: np.ndarray, block_size: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(inputs, targets) over the whole text in blocks that do not overlap: every id but the first
    is a target exactly once. The last block may be shorter and then is a batch of its own."""
    whole = (len(ids) - 1) // block_size
    inputs = ids[: whole * block_size].reshape(whole, block_size)
    targets = ids[1 : whole * block_size + 1].reshape(whole, block_size)
    for start in range(0, whole, batch_size):
        yield inputs[start : start + batch_size], targets[start : start + batch_size]
    rest = ids[whole * block_size :]
    if len(rest) > 1:
        yield rest[None, :-1], rest[None, 1:]
