"""What a job of ranks does when one of them ends, in threads in place of processes. With MPI: test_distributed.py."""

import signal
import socket
import threading
import time
from typing import Any

import pytest
from thread_ranks import on_ranks

from tinylm.train import distributed
from tinylm.train.distributed import MPIRanks


def test_ranks_that_come_to_their_end_say_nothing(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def work(ranks: MPIRanks) -> set[int]:
        ranks._abort = None  # type: ignore[assignment, method-assign]
        with ranks:
            assert ranks._heartbeats is not None
            return set(ranks._heartbeats._connections)

    assert on_ranks(3, work) == [{1, 2}, {0}, {0}]
    assert on_ranks(1, work) == [set()]  # with nobody to be connected with
    assert capfd.readouterr() == ("", "")


def test_a_rank_that_ends_without_a_word_is_told_by_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    aborted: list[tuple[int, int]] = []

    def work(ranks: MPIRanks) -> None:
        told = threading.Event()

        def abort(status: int) -> None:
            aborted.append((ranks.rank, status))
            told.set()

        ranks._abort = abort  # type: ignore[method-assign]
        ranks.__enter__()
        assert ranks._heartbeats is not None
        if ranks.rank == 1:  # as the kernel does it when a process dies
            ranks._heartbeats._closing.set()
            for connection in ranks._heartbeats._connections.values():
                connection.shutdown(socket.SHUT_RDWR)
        else:
            assert told.wait(60)

    assert on_ranks(2, work) == [None, None]
    assert aborted == [(0, 1)]
    assert capfd.readouterr().err == "error: rank 1 has ended without a word: killed, or by os._exit\n"


def test_ranks_that_cannot_reach_each_other_train_all_the_same(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(distributed, "connect", lambda rank, size, broadcast, one_machine: None if rank == 1 else {})

    def work(ranks: MPIRanks) -> bool:
        with ranks:
            return ranks._heartbeats is None

    assert on_ranks(2, work) == [True, True]
    assert capfd.readouterr().err == ("tinylm: the ranks cannot reach each other over TCP: one that is stopped will not be noticed\n")


@pytest.mark.parametrize(("here", "size", "one_machine"), [(2, 2, True), (1, 2, False)])
def test_on_one_machine_nothing_listens_to_the_network(here: int, size: int, one_machine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(distributed, "connect", lambda rank, size, broadcast, one_machine: asked.append(one_machine))

    def work(ranks: MPIRanks) -> None:
        ranks._here.size = here
        ranks.__enter__()

    on_ranks(size, work)
    assert asked == [one_machine] * size


class Leaving:
    """Heartbeats whose close says whether the others have left too."""

    def __init__(self, together: bool) -> None:
        self.together, self.left = together, [True][1:]

    def close(self, left: bool) -> bool:
        self.left.append(left)
        return self.together


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("error", [None, SystemExit(3)])
def test_leaving_by_sys_exit(together: bool, error: SystemExit | None, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends the job if others wait for this rank."""
    ranks, ended, beats = MPIRanks.__new__(MPIRanks), [], Leaving(together)
    ranks.rank, ranks._heartbeats, ranks._abort = 2, beats, ended.append  # type: ignore[assignment, method-assign]
    ranks.__exit__(None, error, None)
    assert beats.left == [error is not None]
    waited_for = error is not None and not together
    assert ended == [1] * waited_for
    text = "rank 2: error: rank 2 has left by sys.exit(3), and the others wait for it\n"
    assert capsys.readouterr().err == text * waited_for


def test_an_abort_speaks_first_and_ends_this_process_if_mpi_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[Any] = []

    class Communicator:
        def Abort(self, status: int) -> None:
            did.append(("abort", status))

    class Beats:
        def close_after_error(self) -> None:
            did.append("says goodbye")

    def slept(seconds: float) -> None:
        wait(0.001)
        did.append(seconds)

    wait = time.sleep
    monkeypatch.setattr(distributed.time, "sleep", slept)
    monkeypatch.setattr(distributed.os, "kill", lambda process, how: did.append((process == distributed.os.getpid(), how)))
    ranks = MPIRanks.__new__(MPIRanks)
    ranks._comm, ranks._heartbeats = Communicator(), Beats()  # type: ignore[assignment]
    ranks._abort(130)
    assert did[:2] == ["says goodbye", 0.5]
    assert sorted(map(str, did[2:4])) == ["('abort', 130)", "5"]
    assert did[4:] == [(True, signal.SIGKILL)]


@pytest.mark.parametrize(("rank", "waited"), [(0, []), (1, [1])])
def test_rank_0_speaks_first(rank: int, waited: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """If all raise the same error, rank 0 has ended the others before they tell it again."""
    slept: list[float] = []
    monkeypatch.setattr(distributed.time, "sleep", slept.append)
    ranks, ended = MPIRanks.__new__(MPIRanks), []
    ranks.rank, ranks._abort = rank, ended.append  # type: ignore[method-assign]
    ranks.__exit__(ValueError, ValueError("no"), None)
    assert (slept, ended) == (waited, [1])
    assert capsys.readouterr().err == ("rank 1: " if rank else "") + "ValueError: no\n"


def test_a_machines_ranks_have_gpus_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 1 of its machine takes the GPU after the first that is named; what joins them over NCCL comes from rank 0."""
    made: list[Any] = []

    class Nccl:
        available = True

        @staticmethod
        def get_unique_id() -> str:
            return "id of rank 0"

        @staticmethod
        def NcclCommunicator(size: int, name: str, rank: int) -> Any:
            made.append((size, name, rank))

    monkeypatch.setattr(distributed.MPIRanks, "_sees_its_own_gpu", lambda ranks: False)
    monkeypatch.setattr(distributed, "device_namespace", lambda device: made.append(device))
    monkeypatch.setattr(distributed.importlib, "import_module", lambda name: Nccl)
    assert on_ranks(2, lambda ranks: ranks.device("cuda:2")) == ["cuda:2", "cuda:3"]
    assert sorted(map(str, made)) == ["(2, 'id of rank 0', 0)", "(2, 'id of rank 0', 1)", "cuda:2", "cuda:3"]
