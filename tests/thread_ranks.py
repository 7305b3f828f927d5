"""Ranks that train together in one process: MPIRanks whose messages go from thread to thread in place of MPI."""

import contextlib
import socket
import threading
import types
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.train.distributed import MPIRanks
from tinylm.train.processes.heartbeats import Heartbeats


class Meetings:
    """Where the threads of a job exchange values, round by round."""

    def __init__(self, size: int) -> None:
        self.size, self.changed = size, threading.Condition()
        self.rounds: defaultdict[int, dict[int, Any]] = defaultdict(dict)
        self.gone: set[int] = set()  # ranks that have ended

    def exchange(self, number: int, rank: int, value: Any) -> list[Any]:
        """Returns the values of all ranks. Raises EOFError if one has ended that has given none."""
        with self.changed:
            given = self.rounds[number]
            given[rank] = value
            self.changed.notify_all()
            self.changed.wait_for(lambda: len(given) == self.size or self.gone - given.keys(), 60)
            if len(given) < self.size:
                raise EOFError(f"a rank does not come to meeting {number}")
            return [given[rank] for rank in range(self.size)]

    def leave(self, rank: int) -> None:
        with self.changed:
            self.gone.add(rank)
            self.changed.notify_all()


class Communicator:
    """What MPIRanks uses of mpi4py's, for one of several threads."""

    def __init__(self, rank: int, meetings: Meetings) -> None:
        self.rank, self.meetings, self.number = rank, meetings, 0

    def allgather(self, value: Any) -> list[Any]:
        self.number += 1
        return self.meetings.exchange(self.number, self.rank, value)

    def bcast(self, value: Any, root: int) -> Any:
        return self.allgather(value)[root]

    def allreduce(self, flag: bool, op: str) -> bool:
        assert op == "or"
        return any(self.allgather(flag))

    def Allreduce(self, where: str, array: np.ndarray) -> None:
        assert where == "in place"
        parts = self.allgather(array.copy())
        array[...] = sum(parts[1:], parts[0])

    def Barrier(self) -> None:
        self.allgather(None)


def on_ranks(size: int, work: Callable[[MPIRanks], Any]) -> list[Any]:
    """Returns what the work gives on each rank: its result, or the error that it raised."""
    found: list[Any] = [None] * size
    made: list[MPIRanks] = []
    meetings = Meetings(size)

    def run(rank: int) -> None:
        ranks = MPIRanks.__new__(MPIRanks)
        made.append(ranks)
        ranks._mpi, ranks._comm = types.SimpleNamespace(IN_PLACE="in place", LOR="or"), Communicator(rank, meetings)
        ranks.rank, ranks.size, ranks._heartbeats = rank, size, None
        ranks._here = types.SimpleNamespace(size=size, rank=rank)
        try:
            found[rank] = work(ranks)
        except Exception as error:
            found[rank] = error
        meetings.leave(rank)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    hang_up([beats for ranks in made if isinstance(beats := ranks._heartbeats, Heartbeats)])
    return found


def hang_up(all_beats: list[Heartbeats]) -> None:
    """Ends the watching threads, which in a process of their own end with it, and closes the connections."""
    connections = [connection for beats in all_beats for connection in beats._connections.values()]
    for beats in all_beats:
        beats._closing.set()
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    for thread in threading.enumerate():
        if thread.name == "heartbeats":
            thread.join(60)
    for connection in connections:
        connection.close()
