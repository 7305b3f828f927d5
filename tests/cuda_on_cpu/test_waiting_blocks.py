"""Blocks that wait for each other, emulated: a right barrier runs, and each mistake in one is found."""

from collections.abc import Sequence

import numpy as np
import pytest

from . import emulator
from .emulator import LaunchError, Module
from .emulator.launching import Card
from .emulator.recording import Recorder, SanitizerError, replay

pytestmark = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))

# Each block writes, waits for all, and adds up what the others have written; twice.
CODE = """
extern "C" __global__ void meet(float* x, float* y, unsigned int* arrived) {
  __shared__ float mine;
  for (unsigned int round = 1; round < 3; ++round) {
    if (threadIdx.x == 0) mine = x[(round - 1) * gridDim.x + blockIdx.x] + round;
    __syncthreads();
    if (threadIdx.x == 5) x[round * gridDim.x + blockIdx.x] = mine;
    __syncthreads();
    if (threadIdx.x == 0) {
      __threadfence();
      atomicAdd(arrived, 1u);
      while (*(volatile unsigned int*)arrived < round * gridDim.x) __nanosleep(32);
      __threadfence();
    }
    __syncthreads();
    float sum = mine;
    for (int b = 0; b < gridDim.x; ++b) sum += x[round * gridDim.x + b];
    y[(blockIdx.x * blockDim.x + threadIdx.x) * 2 + round - 1] = sum;
    __syncthreads();
  }
}
"""
FENCE, POLL = "      __threadfence();\n", "*(volatile unsigned int*)arrived"


def meet(code: str, blocks: int, cooperative: bool = True, shared: int = 0) -> np.ndarray:
    """Launches the kernel with 40 threads per block, and returns y as (blocks, threads, rounds)."""
    x, y = np.zeros(3 * blocks, np.float32), np.zeros(80 * blocks, np.float32)
    x[:blocks] = np.arange(blocks)
    Module(code).get_function("meet")((blocks,), (40,), (x, y, np.zeros(1, np.uint32)), shared_mem=shared, cooperative=cooperative)
    return y.reshape(blocks, 40, 2)


def without(part: str, *, last: bool = False) -> str:
    """Returns the kernel without its first or its last `part`."""
    assert part in CODE
    return "".join(CODE.rpartition(part)[::2]) if last else CODE.replace(part, "", 1)


@pytest.mark.parametrize("blocks", [1, 2, 7])
def test_a_barrier(blocks: int) -> None:
    """After the first round block b has b + 1, and all have Σ (b + 1); after the second b + 3, and Σ (b + 3). Static shared memory
    belongs to its block, although blocks take turns."""
    b = np.arange(blocks)
    expected = np.stack([b + 1 + (b + 1).sum(), b + 3 + (b + 3).sum()], axis=1)
    np.testing.assert_array_equal(meet(CODE, blocks), np.broadcast_to(expected[:, None], (blocks, 40, 2)))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (CODE.replace(POLL, "round * gridDim.x + 0 * *arrived"), "depends on the order"),
        (CODE.replace("< round * gridDim.x)", "< round * gridDim.x - 1)"), "depends on the order"),
        (CODE.replace("< round * gridDim.x)", "< round * gridDim.x + 1)"), "deadlock: it waits at line 12 for another block"),
        (
            CODE.replace(f"while ({POLL}", f"const unsigned int now = {POLL};\n      while (now"),
            "deadlock: it waits at line 13 for another block, as all others do; 0 blocks have not begun",
        ),
        (CODE.replace("atomicAdd(arrived, 1u);", "if (blockIdx.x) atomicAdd(arrived, 1u);"), "deadlock"),
    ],
    ids=["nobody waits", "one block is not waited for", "waits for one too many", "the count is read once", "a block is not counted"],
)
def test_wrong_barriers(code: str, message: str) -> None:
    with pytest.raises(LaunchError, match=message):
        meet(code, 5)


def test_a_grid_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two multiprocessors with 64 KB of shared memory have room for two blocks of 40 KB."""
    monkeypatch.setattr(Card, "multiprocessors", 2)
    assert meet(CODE, 2, shared=40_000).shape == (2, 40, 2)
    with pytest.raises(LaunchError, match="too large for a cooperative launch: 3 blocks, the card has room for 2 at a time"):
        meet(CODE, 3, shared=40_000)
    with pytest.raises(LaunchError, match=r"deadlock: .* 1 blocks have not begun, since 2 run at a time"):
        meet(CODE, 3, cooperative=False, shared=40_000)
    with pytest.raises(LaunchError, match="line 12: a block waits for another one, in a launch that is not cooperative"):
        meet(CODE, 2, cooperative=False, shared=40_000)
    monkeypatch.setattr(Card, "cooperative", False)
    with pytest.raises(LaunchError, match="no cooperative launches"):
        meet(CODE, 2)


def test_more_threads_than_the_emulator_has_stacks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Card, "multiprocessors", 100)
    with pytest.raises(LaunchError, match="stacks for 4096 threads, 103 blocks have 4120"):
        meet(CODE, 103)


# ---------------------------------------------------------------- races that no order of turns shows


def repeated(codes: Sequence[str]) -> None:
    """Repeats a launch of the right kernel by others under TSan."""
    with Recorder() as recorder:
        meet(CODE, 3)
    ((_, options), launches) = next(iter(recorder.launches.items()))
    recorder.launches = {(code, options): launches for code in codes}
    replay(recorder, "tsan")


def test_a_right_barrier_has_no_race() -> None:
    repeated([CODE])


@pytest.mark.parametrize(
    "code",
    [
        without(FENCE),
        without(FENCE, last=True),
        CODE.replace(POLL, "*arrived"),
        CODE.replace("__syncthreads();\n    if (threadIdx.x == 0) {", "if (threadIdx.x == 0) {"),
    ],
    ids=["no fence before", "no fence after", "the count is no volatile read", "no barrier of the block before"],
)
def test_races(code: str) -> None:
    with pytest.raises(SanitizerError, match="data race"):
        repeated([code])
