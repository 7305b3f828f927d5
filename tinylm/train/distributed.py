"""Data-parallel training: several processes, the ranks, each with its rows of every batch.

MPI starts the ranks (`mpiexec -n 2 python scripts/train.py --distributed`) and carries what they tell
each other; gradients that are on GPUs go over NCCL. Each rank computes the gradient of its rows; the
mean over the ranks is the gradient of the whole batch, since all have as many rows.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinylm.bindings.cpu.cores import thread_count
from tinylm.engine.arrays import Array
from tinylm.engine.devices import device_namespace, parse_device, to_numpy
from tinylm.engine.random_keys import Generator
from tinylm.errors import ConfigError, DeviceError, explanation
from tinylm.nn import Module
from tinylm.train.checkpoints import state_digest
from tinylm.train.processes.heartbeats import Heartbeats, connect

_DRAWS = 2**48  # of random streams that each rank has to itself


class Ranks:
    """The processes that train together, as a run asks them: here a single one. All ranks call each method, in the same order."""

    rank = 0  # which of them this process is; 0 alone writes and prints
    size = 1

    def average(self, arrays: Sequence[Array]) -> None:
        """Makes each array its mean over the ranks, in place, with the same bits on all of them."""

    def any(self, flag: bool) -> bool:
        """Whether some rank says so."""
        return flag

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """Returns the value of one rank, of any kind that mpi4py can serialise; the ranks of a job trust each other."""
        return value

    def gather(self, part: Array, axis: int) -> np.ndarray:
        """Returns the arrays of all ranks as one on the CPU, side by side along an axis in the order of the ranks."""
        return to_numpy(part)

    def barrier(self) -> None:
        """Waits until all have come here."""

    def agree(self, values: Mapping[str, Any]) -> None:
        """Raises ConfigError, on all ranks, for a value that is not the same on all of them."""


class MPIRanks(Ranks):
    """The ranks that mpiexec started.

    As a context it ends all of them when an error or sys.exit leaves it on one, or when one is killed or stopped: the others
    would wait for ever.
    """

    def __init__(self) -> None:
        """Raises ConfigError when mpi4py or an MPI library is missing."""
        try:
            mpi = importlib.import_module("mpi4py.MPI")  # this starts MPI
        except (ImportError, RuntimeError) as error:
            raise ConfigError(f'several processes need mpi4py and an MPI library: pip install "tinylm[distributed]" ({error})') from error
        self._mpi, self._comm = mpi, mpi.COMM_WORLD
        self.rank, self.size = self._comm.rank, self._comm.size
        self._here = self._comm.Split_type(mpi.COMM_TYPE_SHARED)  # the ranks of this machine
        self._nccl: Any = None
        self._heartbeats: Heartbeats | None = None

    def share_cores(self) -> None:
        """Divides the cores among the ranks that may all use them, unless TINYLM_NUM_THREADS says how many the kernels of a rank get.

        Some launchers give each rank cores of its own.
        """
        usable = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else None
        sharers = self._here.allgather(usable).count(usable)
        os.environ.setdefault("TINYLM_NUM_THREADS", str(max(1, thread_count() // sharers)))

    def device(self, device: str) -> str:
        """Returns the rank's own device: with 'cuda:N' the ranks of a machine get N, N + 1, ..., and all of them N if the launcher shows
        each a GPU of its own. Also joins them over NCCL."""
        kind, first = parse_device(device)
        if kind == "cpu":
            return device
        own = f"cuda:{first if self._sees_its_own_gpu() else first + self._here.rank}"
        cupy = device_namespace(own)
        nccl = importlib.import_module("cupy.cuda.nccl")
        if not nccl.available:
            raise DeviceError("training on several GPUs needs NCCL, which CuPy does not find: pip install nvidia-nccl-cu12")
        name = self.broadcast(nccl.get_unique_id() if self.rank == 0 else None)
        self._nccl = NcclMeans(nccl, nccl.NcclCommunicator(self.size, name, self.rank), self.size, cupy)
        return own

    def _sees_its_own_gpu(self) -> bool:
        """Returns whether each rank of this machine sees one GPU, and none the same as another."""
        runtime = device_namespace("cuda").cuda.runtime
        seen = self._here.allgather([runtime.deviceGetPCIBusId(i) for i in range(runtime.getDeviceCount())])
        return all(len(gpus) == 1 for gpus in seen) and len({gpus[0] for gpus in seen}) == len(seen)

    def average(self, arrays: Sequence[Array]) -> None:
        for array in arrays:
            if isinstance(array, np.ndarray):
                self._comm.Allreduce(self._mpi.IN_PLACE, array)
                array *= array.dtype.type(1 / self.size)
            else:
                self._nccl.average(array)

    def any(self, flag: bool) -> bool:
        return bool(self._comm.allreduce(flag, op=self._mpi.LOR))

    def broadcast(self, value: Any, root: int = 0) -> Any:
        return self._comm.bcast(value, root)

    def gather(self, part: Array, axis: int) -> np.ndarray:
        return np.concatenate(self._comm.allgather(to_numpy(part)), axis)

    def barrier(self) -> None:
        self._comm.Barrier()

    def agree(self, values: Mapping[str, Any]) -> None:
        mine = {name: repr(value) for name, value in values.items()}
        everyone = self._comm.allgather(mine)
        for rank, theirs in enumerate(everyone):
            for name in [n for n in mine | theirs if theirs.get(n) != everyone[0].get(n)]:
                there, first = (values.get(name, "missing") for values in (theirs, everyone[0]))
                raise ConfigError(f"{name} is {there:.120} on rank {rank} and {first:.120} on rank 0: all ranks need the same")

    def __enter__(self) -> "MPIRanks":
        """Connects the ranks, so that each notices when another is stopped."""
        connections = connect(self.rank, self.size, self.broadcast, self._here.size == self.size) if self.size > 1 else {}
        if not self.any(connections is None):
            self._heartbeats = Heartbeats(connections or {}, self._end_all)
        elif self.rank == 0:
            print("tinylm: the ranks cannot reach each other over TCP: one that is stopped will not be noticed", file=sys.stderr)
        return self

    def _end_all(self, what: str, status: int = 1) -> None:
        print(f"error: {what}" if self.rank == 0 else f"rank {self.rank}: error: {what}", file=sys.stderr, flush=True)
        self._abort(status)

    def _abort(self, status: int) -> None:
        if self._heartbeats is not None:
            self._heartbeats.close_after_error()
        time.sleep(0.5)  # mpiexec passes on what was printed; an abort may overtake it
        threading.Thread(target=self._comm.Abort, args=(status,), daemon=True).start()  # another thread may be within MPI for ever
        time.sleep(5)
        os.kill(os.getpid(), signal.SIGKILL)  # which mpiexec notices

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Says what happened and ends all ranks: with status 2 for an error of the user's, 130 for Ctrl-C, else 1."""
        if error is None or isinstance(error, SystemExit):
            if self._heartbeats is not None and not self._heartbeats.close(left=error is not None) and error is not None:
                self._end_all(f"rank {self.rank} has left by sys.exit({error.code!r:.80}), and the others wait for it")
            return
        if self.rank:
            time.sleep(1)  # if all ranks raise the same error, rank 0 prints it and ends this rank within that time
        if isinstance(error, KeyboardInterrupt):
            text, status = "interrupted", 130
        elif (line := explanation(error)) is not None:
            text, status = f"error: {line}", 2
        else:
            text, status = "".join(traceback.format_exception(error)).rstrip(), 1
        print(text if self.rank == 0 else f"rank {self.rank}: {text}", file=sys.stderr, flush=True)
        self._abort(status)


class NcclMeans:
    """Means of GPU arrays over the ranks, queued on the current stream: the host waits for nothing."""

    def __init__(self, nccl: Any, communicator: Any, size: int, cupy: Any) -> None:
        self._nccl, self._communicator, self._size, self._cupy = nccl, communicator, size, cupy

    def average(self, array: Array) -> None:
        """Makes an array, contiguous and of float32 or float64, its mean over the ranks."""
        kind = {"float32": self._nccl.NCCL_FLOAT32, "float64": self._nccl.NCCL_FLOAT64}[array.dtype.name]
        where, stream = array.data.ptr, self._cupy.cuda.get_current_stream().ptr
        self._communicator.allReduce(where, where, array.size, kind, self._nccl.NCCL_SUM, stream)
        array *= array.dtype.type(1 / self._size)


def refuse_lone_ranks(environment: Any = os.environ) -> None:
    """Raises ConfigError when mpiexec has started several processes that do not know of each other."""
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE"):
        if environment.get(name, "1") != "1":
            raise ConfigError(f"mpiexec started {environment[name]} processes, which would all train the same: give each run MPIRanks()")


@contextlib.contextmanager
def rank_0_first(ranks: Ranks) -> Iterator[None]:
    """Runs the block on rank 0 first, then on all others."""
    if ranks.rank:
        ranks.barrier()
    yield
    if ranks.rank == 0:
        ranks.barrier()


def own_rows(ranks: Ranks, total: int, accumulate: int = 1) -> slice:
    """Returns which of a batch's rows are the rank's. Raises ConfigError when not all get as many, or fewer than micro-batches."""
    each, rest = divmod(total, ranks.size)
    if rest:
        raise ConfigError(f"batch_size is {total}: expected a multiple of the number of ranks, {ranks.size}, which share its rows")
    if each < accumulate:
        raise ConfigError(f"accumulate is {accumulate}: expected at most {each}, the rows of a batch that each rank has")
    return slice(ranks.rank * each, (ranks.rank + 1) * each)


def separate_draws(ranks: Ranks, generator: Generator) -> None:
    """Moves the generator to random streams of the rank's own: no two ranks have the same dropout mask."""
    seed, count = generator.state
    generator.state = seed, count % _DRAWS + ranks.rank * _DRAWS


def check_same_weights(ranks: Ranks, model: Module, when: str) -> None:
    """Raises ConfigError when a rank's parameters or buffers are not, bit for bit, those of rank 0."""
    if ranks.size == 1:
        return
    mine = state_digest(model)
    expected = ranks.broadcast(mine)
    if ranks.any(mine != expected):
        told = "another rank's differ" if mine == expected else f"rank {ranks.rank} has {mine[:12]}"
        raise ConfigError(f"the weights of the ranks are not the same {when}: rank 0 has {expected[:12]}, {told}")
