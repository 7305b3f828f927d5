"""When a rank counts as stopped, ended or gone, turn by turn of a watching thread. No time passes: each test has a clock of its own."""

import socket
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tinylm.train.processes import heartbeats
from tinylm.train.processes.heartbeats import Heartbeats, connect

ALIVE, DONE, LEFT = b".", b"d", b"x"
LIMIT, SILENT = 4, "has been silent for 4 seconds: it is stopped, or its machine is gone"


class World:
    """A clock that waiting moves on, what the others do by it, and one rank's Heartbeats, whose thread runs when `watch` is called."""

    def __init__(self, others: tuple[int, ...]) -> None:
        self.now, self.due = 1000.0, []  # type: tuple[float, list[tuple[float, Callable[[], object]]]]
        self.ended: list[tuple[str, float]] = []
        self.looks = 0
        pairs = {rank: socket.socketpair() for rank in others}
        self.ends = {rank: there for rank, (_, there) in pairs.items()}  # the other ranks' ends
        self.beats = Heartbeats({rank: here for rank, (here, _) in pairs.items()}, lambda what: self.ended.append((what, self.now - 1000)))
        self.sockets = [end for pair in pairs.values() for end in pair]

    def at(self, *seconds: float, do: Callable[[], object]) -> None:
        """Does something at these times."""
        self.due = sorted([*self.due, *((1000 + s, do) for s in seconds)], key=lambda event: event[0])

    def says(self, rank: int, word: bytes, *seconds: float) -> None:
        self.at(*seconds, do=lambda: self.ends[rank].send(word))

    def clock(self) -> float:
        self.looks += 1
        assert self.looks < 2000, "it goes on for ever"
        return self.now

    def wait(self, seconds: float) -> None:
        """Waits until the next event, or so many seconds."""
        if self.due and self.due[0][0] <= self.now + seconds:
            self.now, action = self.due.pop(0)
            action()
        else:
            self.now += seconds

    def watch(self) -> list[tuple[str, float]]:
        """Runs the watching thread until it ends. Returns what it told, with the second at which it did."""
        self.thread.run()
        return self.ended

    def heard(self, rank: int) -> bytes:
        """Returns what the other rank has been told."""
        self.ends[rank].setblocking(False)
        try:
            return self.ends[rank].recv(4096)
        except BlockingIOError:
            return b""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    class Event(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            assert timeout is not None
            if not self.is_set():
                made[0].wait(timeout)
            return self.is_set()

    class Thread(threading.Thread):
        def start(self) -> None:
            made[0].thread = self  # type: ignore[attr-defined]

    def select(readable: list[Any], writable: list[Any], errors: list[Any], timeout: float) -> Any:
        found = real_select(readable, writable, errors, 0)
        if not found[0]:
            made[0].wait(timeout)
            found = real_select(readable, writable, errors, 0)
        return found

    def make(*others: int) -> World:
        new = World.__new__(World)
        made.append(new)
        new.__init__(others)  # type: ignore[misc]
        return new

    real_select = heartbeats.select.select
    monkeypatch.setenv("TINYLM_RANK_SILENCE", str(LIMIT))
    monkeypatch.setattr(heartbeats, "time", types.SimpleNamespace(monotonic=lambda: made[0].clock()))
    monkeypatch.setattr(heartbeats, "select", types.SimpleNamespace(select=select))
    monkeypatch.setattr(heartbeats, "threading", types.SimpleNamespace(Event=Event, Thread=Thread))
    yield make
    for end in made[0].sockets:
        end.close()


def seconds(first: int, last: int) -> list[float]:
    """Returns a time in each of some seconds."""
    return [second + 0.5 for second in range(first, last)]


def test_a_rank_that_says_nothing_is_stopped_after_the_limit(world: Callable[..., World]) -> None:
    here = world(1)
    assert here.watch() == [(f"rank 1 {SILENT}", LIMIT)]
    assert here.heard(1) == LIMIT * ALIVE  # and once per second it was told that this one lives


def test_silence_is_counted_from_the_last_word(world: Callable[..., World]) -> None:
    here = world(0)
    here.says(0, ALIVE, *seconds(0, 3), 6.5)  # three silent seconds are not enough
    assert here.watch() == [(f"rank 0 {SILENT}", 7 + LIMIT)]


def test_the_silent_one_of_several_is_named(world: Callable[..., World]) -> None:
    here = world(1, 2, 3)
    for rank in (1, 3):
        here.says(rank, ALIVE, *seconds(0, 20))
    here.says(2, ALIVE, 0.5)
    assert here.watch() == [(f"rank 2 {SILENT}", 1 + LIMIT)]
    assert here.heard(1) == here.heard(3) == (1 + LIMIT) * ALIVE


def test_a_machine_that_slept_is_not_silence(world: Callable[..., World]) -> None:
    """The clock jumps by a minute within a turn, which is then one silent turn and not 60 silent seconds."""
    here = world(1)
    here.at(0.5, do=lambda: setattr(here, "now", here.now + 60))
    assert here.watch() == [(f"rank 1 {SILENT}", 60.5 + LIMIT - 1)]


def test_a_rank_that_is_done_may_be_silent(world: Callable[..., World]) -> None:
    """It is not watched any more; the others still are, and so nothing happens until this rank is done too."""
    here = world(1, 2)
    here.says(1, DONE, 0.5)
    here.says(2, ALIVE, *seconds(0, 30))
    here.at(30, do=lambda: here.beats.close(left=False))
    assert here.watch() == []
    assert here.heard(1) == 30 * ALIVE + DONE


def test_when_all_others_are_done_there_is_nothing_to_watch(world: Callable[..., World]) -> None:
    here = world(1)
    here.says(1, ALIVE + DONE, 0.5)
    here.at(30.25, do=lambda: here.beats.close(left=False))
    assert here.watch() == []
    assert here.now == 1030.25  # at once, within a turn
    assert here.heard(1) == 31 * ALIVE + DONE  # a turn lasts a second all the same


def test_a_connection_that_ends_is_noticed_at_once(world: Callable[..., World]) -> None:
    here = world(1, 2)
    here.says(1, ALIVE, *seconds(0, 10))
    here.says(2, ALIVE, *seconds(0, 10))
    here.at(2.75, do=lambda: here.ends[2].close())
    assert here.watch() == [("rank 2 has ended without a word: killed, or by os._exit", 2.75)]


def test_a_connection_that_ends_when_this_rank_ends_is_no_fault(world: Callable[..., World]) -> None:
    here = world(1)

    def both_end() -> None:
        here.beats.close_after_error()
        assert here.heard(1) == ALIVE + DONE
        here.ends[1].close()

    here.at(0.5, do=both_end)
    assert here.watch() == []


def test_others_that_stay_when_a_rank_has_left(world: Callable[..., World]) -> None:
    """Of those that have left one waits for the others for five seconds; only after that do the others speak of it."""
    here = world(1, 2)
    here.says(1, LEFT, 2.5)
    here.says(2, ALIVE, *seconds(0, 30))
    assert here.watch() == [("rank 1 has left by sys.exit, and the others wait for it", 10)]


def test_leaving_waits_for_the_others_for_five_seconds(world: Callable[..., World]) -> None:
    here = world(1, 2)
    assert not here.beats.close(left=True)
    assert here.now == pytest.approx(1005)
    assert here.heard(1) == here.heard(2) == LEFT


@pytest.mark.parametrize("word", [DONE, LEFT])
def test_leaving_ends_when_all_others_have_left_or_are_done(word: bytes, world: Callable[..., World]) -> None:
    here, left = world(1), []
    here.says(1, word, 0.5)
    here.at(0.75, do=lambda: left.append((here.beats.close(left=True), here.now)))
    assert here.watch() == []
    assert left == [(True, 1000.75)]


def test_being_done_waits_for_nobody(world: Callable[..., World]) -> None:
    here = world(1)
    assert not here.beats.close(left=False)
    assert here.now == 1000
    assert here.heard(1) == DONE


def test_a_rank_that_reads_nothing_does_not_hold_up_the_others(world: Callable[..., World]) -> None:
    """The connection to rank 1 takes no more bytes; rank 2 is told as usual."""
    here = world(1, 2)
    here.sockets[0].send(bytes(10**8))
    with pytest.raises(BlockingIOError):
        here.sockets[0].send(ALIVE)
    for rank in (1, 2):
        here.says(rank, ALIVE, *seconds(0, 10))
    here.at(10, do=lambda: here.beats.close(left=False))
    assert here.watch() == []
    assert here.heard(2) == 10 * ALIVE + DONE


def test_the_watching_thread_speaks_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A main thread that computes is not silent."""
    monkeypatch.setenv("TINYLM_RANK_SILENCE", "1000")
    here, there = socket.socketpair()
    with here, there:
        beats = Heartbeats({1: here}, lambda what: None)
        there.settimeout(60)
        assert there.recv(1) == ALIVE
        assert any(thread.name == "heartbeats" and thread.daemon for thread in threading.enumerate())  # it keeps no process alive
        beats.close_after_error()
        there.send(DONE)
        for thread in threading.enumerate():
            if thread.name == "heartbeats":
                thread.join(60)


# ---------------------------------------------------------------- connections


class Broadcast:
    """Hands what rank 0 gives to all."""

    def __init__(self) -> None:
        self.given, self.value = threading.Event(), None

    def __call__(self, value: Any) -> Any:
        if value is not None:
            self.value = value
            self.given.set()
        assert self.given.wait(60)
        return self.value


def on_threads(*works: Callable[[], Any]) -> list[Any]:
    """Returns what each work returns, each in a thread."""
    found: list[Any] = [None] * len(works)
    threads = [threading.Thread(target=lambda i=i, work=work: found.__setitem__(i, work())) for i, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return found


@pytest.mark.parametrize("one_machine", [True, False])
def test_each_rank_is_connected_with_rank_0(one_machine: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger is turned away, a host's name that leads nowhere is passed over, and on one machine nothing listens to the network."""
    listening = []
    create = socket.create_server
    monkeypatch.setattr(socket, "create_server", lambda address, **settings: listening.append(address) or create(address, **settings))
    monkeypatch.setattr(socket, "gethostname", lambda: "no-such-host.invalid")
    monkeypatch.setattr(socket, "getfqdn", lambda: "localhost")
    broadcast = Broadcast()

    def stranger_and_rank(rank: int) -> Any:
        _, port, _ = broadcast(None)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as other:
            other.sendall(bytes(20))
            assert other.recv(1) == b""  # closed
        return connect(rank, 301, broadcast, one_machine)

    def rank_0() -> Any:
        return connect(0, 3, broadcast, one_machine)

    first, second, third = on_threads(rank_0, lambda: stranger_and_rank(1), lambda: stranger_and_rank(300))
    assert first.keys() == {1, 300}
    assert second.keys() == third.keys() == {0}
    for rank, connection in first.items():
        connection.sendall(b"%d" % rank)
    assert (second[0].recv(3), third[0].recv(3)) == (b"1", b"300")
    assert listening == [("127.0.0.1" if one_machine else "", 0)]
    assert len(broadcast.value[2]) == 16
    for connection in (*first.values(), second[0], third[0]):
        connection.close()


def test_ranks_that_do_not_come_or_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    assert heartbeats._CONNECT == 15
    monkeypatch.setattr(heartbeats, "_CONNECT", 0.01)
    assert connect(0, 2, lambda value: value, one_machine=True) is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert connect(1, 2, lambda value: (["127.0.0.1"], port, bytes(16)), one_machine=True) is None
