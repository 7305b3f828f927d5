"""Recurrent layers in one launch per sequence and direction: whether a layer fits on the GPU, and how its blocks share it out.

kernels/cuda/recurrent.cuh says what a block does. At most one block runs on a multiprocessor, so that all of them run at once whatever
registers they take, as the barrier between two steps requires.
"""

from typing import Any, NamedTuple

from tinylm.bindings.cuda.launching import CudaSource
from tinylm.engine.arrays import Array, array_module
from tinylm.ops.recurrent_scan import Scan

_ROWS, _OUTPUTS, _MOST_WARPS = 4, 2, 8  # ROWS and OUTPUTS of the kernels; warps of __launch_bounds__
_MOST_READ = 32 * 2**20  # bytes that all blocks read from the L2 cache in a step; beyond it cuBLAS is expected to be faster (estimated)


class Card(NamedTuple):
    """What a launch may have: blocks at a time if one runs on each multiprocessor, bytes of shared memory in each, whether blocks may
    wait for each other."""

    multiprocessors: int
    shared_bytes: int
    cooperative: bool


def card_of(array: Array) -> Card:
    """Returns what the GPU has where the array is. The driver knows it: nothing waits."""
    runtime, device = array_module(array).cuda.runtime, array.device.id
    names = "MultiProcessorCount", "MaxSharedMemoryPerBlockOptin", "CooperativeLaunch"
    multiprocessors, shared_bytes, cooperative = (runtime.deviceGetAttribute(getattr(runtime, f"cudaDevAttr{n}"), device) for n in names)
    return Card(multiprocessors, shared_bytes, bool(cooperative))


class Plan(NamedTuple):
    """How a direction of a layer is launched: hidden units of a block, rows of the batch that it has in shared memory at once."""

    blocks: int
    threads: int
    shared_bytes: int
    units: int
    tile: int


def plan(card: Card, batch: int, hidden: int, gates: int, backward: bool) -> Plan | None:
    """Returns the plan for a layer with `gates` blocks of W_hh (gates H, H), or None if it must be launched step by step.

    Every block has hidden units of its own, ⌈H / multiprocessors⌉ at most, and their part of W_hh in shared memory; beside it must be
    room for `tile` rows of what the product reads, h_{t-1} forward and ds_t backward, and of the sums.
    """
    if not card.cooperative or batch == 0 or hidden == 0:
        return None
    units = -(-hidden // card.multiprocessors)
    blocks = -(-hidden // units)
    inner, outputs = (gates * hidden, units) if backward else (hidden, gates * units)
    tile = min(batch, (card.shared_bytes // 4 - inner * outputs) // (inner + outputs))
    if tile < min(batch, _ROWS) or 4 * blocks * batch * inner > _MOST_READ:
        return None
    warps = min(-(-tile // _ROWS) * -(-outputs // _OUTPUTS), _MOST_WARPS)
    return Plan(blocks, 32 * warps, 4 * (inner * outputs + tile * (inner + outputs)), units, tile)


def launch(source: CudaSource, kernel: str, plan: Plan, scan: Scan, rounded: bool, arrays: tuple[Any, ...], *settings: int) -> None:
    """Runs a whole sequence. arrays: those of the kernel before `running`, W_hh (gates H, H) first; settings: its last numbers."""
    xp, steps = scan.xp, len(scan.steps)
    running = None if scan.order is None else scan.running
    sizes = steps, scan.batch, scan.hidden, plan.units, plan.tile, scan.reverse, rounded
    arrived = xp.zeros(1, "uint32")
    source.launch_together(kernel, plan.blocks, plan.threads, plan.shared_bytes, *arrays, running, arrived, *sizes, *settings)
