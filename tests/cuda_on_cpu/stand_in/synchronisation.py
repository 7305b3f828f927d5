"""Where the host would wait for the GPU: counted, and refused under `cupyx.allow_synchronize(False)`, as in CuPy."""

import contextlib
from collections.abc import Iterator


class DeviceSynchronized(RuntimeError):
    """The host waited for the device where that is not allowed."""


class _State:
    allowed = True
    count = 0


state = _State()


def synchronise(what: str, waits: bool = True) -> None:
    """Called by everything that makes the host wait, and by what CuPy refuses although it does not wait: get(blocking=False)."""
    state.count += waits
    if not state.allowed:
        raise DeviceSynchronized(f"hidden synchronisation: {what}")


@contextlib.contextmanager
def allow_synchronize(allow: bool) -> Iterator[None]:
    """With False, whatever synchronises within it raises DeviceSynchronized; a nested block with True allows it again."""
    before, state.allowed = state.allowed, allow
    try:
        yield
    finally:
        state.allowed = before
