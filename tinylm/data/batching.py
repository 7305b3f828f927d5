"""From a long row of token ids to batches of inputs and targets."""

from collections.abc import Iterator, Sequence

import numpy as np

from tinylm.engine.random_keys import philox
from tinylm.errors import DataError


def split_text(text: str, validation: float = 0.1) -> tuple[str, str]:
    """Returns (training, validation): the first 1 - validation of the characters, and the rest."""
    cut = int(len(text) * (1 - validation))
    return text[:cut], text[cut:]


class ShuffledBlocks:
    """Blocks of a text in random order, epoch after epoch.

    An epoch cuts the text into neighbouring blocks, from a random start, and shuffles them, so that each token is a target
    about once per epoch. Batch k is a function of the seed and k alone: a run that is stopped and resumed sees the same
    batches.
    """

    def __init__(self, ids: np.ndarray, block_size: int, batch_size: int, seed: int) -> None:
        if len(ids) < block_size + 1:
            raise DataError(f"the data is too short: {len(ids)} tokens, a block of {block_size} needs {block_size + 1}")
        self.ids, self.block_size, self.batch_size, self.seed = ids, block_size, batch_size, seed
        self._shift = min(block_size, len(ids) - block_size)  # how many starts an epoch may choose from
        self.blocks_per_epoch = (len(ids) - self._shift) // block_size
        self._offsets = np.arange(block_size + 1)
        self._epochs: dict[int, tuple[int, np.ndarray]] = {}

    @property
    def batches_per_epoch(self) -> int:
        """How many whole batches the first epoch has."""
        return self.blocks_per_epoch // self.batch_size

    def starts_afresh(self, k: int) -> bool:
        """True: no batch continues the one before it."""
        return True

    def _start(self, number: int) -> int:
        """Returns where a block begins; blocks are counted over all epochs, in the order in which they are used."""
        epoch, place = divmod(number, self.blocks_per_epoch)
        if epoch not in self._epochs:
            draw = np.random.Generator(philox((self.seed, epoch)))
            first = int(draw.integers(self._shift))
            self._epochs = {e: s for e, s in self._epochs.items() if e == epoch - 1}
            numbers = np.arange(self.blocks_per_epoch, dtype=np.uint32 if self.blocks_per_epoch < 2**32 else np.uint64)
            self._epochs[epoch] = first, draw.permutation(numbers)  # 4 bytes per block: there may be many
        shift, order = self._epochs[epoch]
        return shift + self.block_size * int(order[place])

    def __getitem__(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (inputs, targets) of batch k, each (batch_size, block_size); a target is the next input."""
        numbers = range(k * self.batch_size, (k + 1) * self.batch_size)
        starts = np.array([self._start(n) for n in numbers])
        rows = self.ids[starts[:, None] + self._offsets].astype(np.int64, copy=False)
        return rows[:, :-1], rows[:, 1:]


class ParallelStreams:
    """A text cut into batch_size long streams that are read side by side, one block per batch: each batch continues the one
    before it, as a recurrent model's carried state requires.

    An epoch begins at a random start of less than a block. Batch k is a function of the seed and k.
    """

    def __init__(self, ids: np.ndarray, block_size: int, batch_size: int, seed: int) -> None:
        self.ids, self.block_size, self.batch_size, self.seed = ids, block_size, batch_size, seed
        self.batches_per_epoch = (len(ids) - block_size) // batch_size // block_size
        if self.batches_per_epoch < 1:
            raise DataError(
                f"the data is too short: {len(ids)} tokens, {batch_size} streams with a block of {block_size} each "
                f"need {(batch_size + 1) * block_size}"
            )

    def starts_afresh(self, k: int) -> bool:
        """True for the first batch of an epoch, whose state starts at zero."""
        return k % self.batches_per_epoch == 0

    def __getitem__(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns (inputs, targets) of batch k, each (batch_size, block_size); a target is the next input."""
        epoch, column = divmod(k, self.batches_per_epoch)
        first = np.random.Generator(philox((self.seed, epoch))).integers(self.block_size)
        length = self.batches_per_epoch * self.block_size
        starts = first + length * np.arange(self.batch_size) + column * self.block_size
        rows = self.ids[starts[:, None] + np.arange(self.block_size + 1)].astype(np.int64, copy=False)
        return rows[:, :-1], rows[:, 1:]


def consecutive_blocks(ids: np.ndarray, block_size: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (inputs, targets) over the whole text in blocks that do not overlap: every id but the first is a target exactly
    once. The last block may be shorter and then is a batch of its own."""
    whole = (len(ids) - 1) // block_size
    inputs = ids[: whole * block_size].reshape(whole, block_size)
    targets = ids[1 : whole * block_size + 1].reshape(whole, block_size)
    for start in range(0, whole, batch_size):
        yield inputs[start : start + batch_size], targets[start : start + batch_size]
    rest = ids[whole * block_size :]
    if len(rest) > 1:
        yield rest[None, :-1], rest[None, 1:]


def padded(rows: Sequence[np.ndarray], pad: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (ids (N, longest), lengths (N,)) with `pad` after the end of each row."""
    lengths = np.array([len(row) for row in rows])
    ids = np.full((len(rows), lengths.max()), pad, np.int64)
    for place, row in zip(ids, rows, strict=True):
        place[: len(row)] = row
    return ids, lengths
