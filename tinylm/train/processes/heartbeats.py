"""Signs of life of the ranks of a job: one that stops, ends or leaves is noticed by the others, which would wait for it for ever.

Each rank has a thread of its own that sends a byte each second over a TCP connection, all to rank 0 and rank 0 to all. Long work of
the main thread, such as rank 0's validation, is not silence. Silence is counted in turns of the watching thread, not in seconds of a
clock: a machine that slept, or a job that was stopped as a whole, goes on.
"""

import contextlib
import os
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from tinylm.errors import ConfigError

_ALIVE, _DONE, _LEFT = b".", b"d", b"x"  # it lives; it is through with its part; sys.exit ended it
_TOGETHER = 5  # seconds within which the others are to leave too when one has left
_CONNECT = 15  # seconds in which all are to be connected


def longest_silence() -> int:
    """Returns the seconds of silence after which a rank counts as stopped: TINYLM_RANK_SILENCE, or 60. Raises ConfigError."""
    given = os.environ.get("TINYLM_RANK_SILENCE", "60")
    if not (given.isascii() and given.isdigit() and 1 <= int(given) <= 10**6):
        raise ConfigError(f"TINYLM_RANK_SILENCE is {given!r}: expected a number of seconds from 1 to 1000000")
    return int(given)


class Heartbeats:
    """The connections of this rank: of rank 0 to all others, of another one to rank 0."""

    def __init__(self, connections: dict[int, socket.socket], ended: Callable[[str], None]) -> None:
        """connections: by the rank at the other end.  ended: is called in the watching thread, once, with what happened to a rank."""
        self._limit, self._connections, self._ended = longest_silence(), connections, ended
        self._state = dict.fromkeys(connections, _ALIVE)
        self._closing = threading.Event()
        for connection in connections.values():
            connection.setblocking(False)
        threading.Thread(target=self._watch, name="heartbeats", daemon=True).start()

    def close(self, left: bool) -> bool:
        """Says goodbye. left: by sys.exit, and not at the end of its work. Returns whether no other rank still works."""
        self._say(_LEFT if left else _DONE)
        for _ in range(10 * _TOGETHER if left else 0):
            if _ALIVE not in self._state.values() or self._closing.wait(0.1):
                break
        self._closing.set()
        return _ALIVE not in self._state.values()

    def _watch(self) -> None:
        silent, waited = dict.fromkeys(self._connections, 0), 0
        heard: dict[int, bytes]
        while not self._closing.is_set():
            self._say(_ALIVE)
            heard, end = {}, time.monotonic() + 1
            while (left_over := end - time.monotonic()) > 0:  # a turn; what ends is noticed at once, before mpiexec ends us too
                watched = {c: rank for rank, c in self._connections.items() if self._state[rank] == _ALIVE}
                if not watched:
                    self._closing.wait(left_over)
                if self._closing.is_set():
                    return
                for connection in select.select(list(watched), [], [], left_over)[0] if watched else []:
                    rank = watched[connection]
                    heard[rank] = self._heard(connection)
                    self._state[rank] = next((word for word in (_DONE, _LEFT) if word in heard[rank]), _ALIVE)
                    if not heard[rank] and not self._closing.is_set():
                        return self._ended(f"rank {rank} has ended without a word: killed, or by os._exit")
            for rank, state in self._state.items():
                silent[rank] = 0 if rank in heard or state != _ALIVE else silent[rank] + 1
                if silent[rank] >= self._limit:
                    return self._ended(f"rank {rank} has been silent for {silent[rank]} seconds: it is stopped, or its machine is gone")
            left = [rank for rank, state in self._state.items() if state == _LEFT]
            waited += bool(left)
            if waited > _TOGETHER + 2 and not self._closing.is_set():  # after that rank has given up itself
                return self._ended(f"rank {left[0]} has left by sys.exit, and the others wait for it")

    def close_after_error(self) -> None:
        """Says that this rank ends with an error, which it has told itself."""
        self._closing.set()
        self._say(_DONE)

    def _heard(self, connection: socket.socket) -> bytes:
        try:
            return connection.recv(4096)
        except OSError:
            return b""

    def _say(self, word: bytes) -> None:
        for connection in self._connections.values():
            with contextlib.suppress(OSError):  # the other end is stopped or closed, which its silence tells
                connection.send(word)


def connect(rank: int, size: int, broadcast: Callable[[Any], Any], one_machine: bool) -> dict[int, socket.socket] | None:
    """Returns this rank's connections by the rank at the other end; None if they could not be made. All ranks call it together.

    broadcast: returns the value of rank 0.  one_machine: all ranks are on it, so nothing listens to the network.
    """
    token = secrets.token_bytes(16)
    if rank == 0:
        host = "127.0.0.1" if one_machine else ""
        with socket.create_server((host, 0), backlog=size) as server:
            names = [host] if one_machine else [socket.gethostname(), socket.getfqdn()]
            broadcast((names, server.getsockname()[1], token))
            return _accepted(server, size, token)
    names, port, token = broadcast(None)
    for name in names:
        try:
            connection = socket.create_connection((name, port), timeout=_CONNECT)
            connection.sendall(token + rank.to_bytes(4, "big"))
        except OSError:
            continue
        return {0: connection}
    return None


def _accepted(server: socket.socket, size: int, token: bytes) -> dict[int, socket.socket] | None:
    found: dict[int, socket.socket] = {}
    server.settimeout(_CONNECT)
    try:
        while len(found) < size - 1:
            connection, _ = server.accept()
            connection.settimeout(_CONNECT)
            said = connection.recv(20, socket.MSG_WAITALL)
            if secrets.compare_digest(said[:16], token):
                found[int.from_bytes(said[16:], "big")] = connection
            else:
                connection.close()
    except OSError:
        return None
    return found
