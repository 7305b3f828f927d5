"""The pool of the CPU kernels as Python sees it: numbers of threads, repetition, forks, callers at once."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import TOLERANCES, assert_close
from kernel_helpers import linear_inputs, recurrent_inputs

from tinylm.bindings.cpu import blas, cores, linear, recurrent
from tinylm.bindings.cpu.library import Library
from tinylm.errors import ConfigError

PROGRAM = """
import hashlib, sys
import numpy as np
import tinylm
from tinylm.bindings.cpu import library, linear, recurrent
found = library.library()
assert found is not None
assert found.threads == int(sys.argv[1]), found.threads
rng = np.random.default_rng(0)
known = hashlib.sha256()
def look(result):
    value, vjp = result
    outputs = value if isinstance(value, tuple) else (value,)
    for a in (*outputs, *vjp(*(y + 1 for y in outputs))):
        known.update(a.tobytes() if a is not None else b"")
f = lambda *shape: rng.standard_normal(shape).astype(np.float32)
look(linear.linear(f(350, 40), f(70, 40), f(70), activation="gelu"))
for name, blocks in (("rnn", 1), ("lstm", 4), ("gru", 3)):
    look(getattr(recurrent, name)(f(5, 23, 30), f(blocks * 50, 30), f(blocks * 50, 50), f(blocks * 50)))
tiny = np.full(1, 1e-39, np.float32)
assert (tiny * np.float32(0.5))[0] > 0, "the process flushes denormals"
print(known.hexdigest())
"""


def run(threads: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(threads)],
        capture_output=True,
        text=True,
        env={**os.environ, "TINYLM_NUM_THREADS": str(threads), "TINYLM_KERNELS": "auto"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_processes_compute_the_same_bits(cpu: Library) -> None:
    """With any number of threads. The program also asserts that denormal numbers are handled as before."""
    assert len({run(threads) for threads in (1, 2, 5, 5)}) == 1


def results() -> list[np.ndarray]:
    """Returns values and gradients of two layers that are large enough to wake the pool's threads."""
    found: list[np.ndarray] = []
    y, vjp = linear.linear(*(a.astype(np.float32) for a in linear_inputs((900, 33), 40)), activation="silu")
    found += [y, *vjp(y)]
    outputs, vjp = recurrent.gru(*(a.astype(np.float32) for a in recurrent_inputs("gru", steps=9, batch=13, hidden=37) if a is not None))
    return [*found, *outputs, *vjp(*outputs)]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_near(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """Asserts that the arrays are equal up to the order of the sums in a product, which depends on how it is split."""
    assert_close({str(i): pair for i, pair in enumerate(zip(found, expected, strict=True))}, TOLERANCES["float32"])


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_one_number_of_threads_gives_one_result(cpu: Library, threads: int) -> None:
    cpu.functions["pool_size"](threads)
    expected = results()
    for _ in range(20):
        assert_same(results(), expected)


def test_another_number_of_threads_gives_the_same(cpu: Library) -> None:
    cpu.functions["pool_size"](1)
    expected = results()
    for threads in (2, 3, 5):
        cpu.functions["pool_size"](threads)
        assert_same(results(), expected)


def test_whole_products_by_an_sgemm(cpu: Library) -> None:
    cpu.functions["pool_size"](3)
    expected = results()
    try:
        cpu.functions["use_sgemm"](blas.scipy_sgemm())
        assert_near(results(), expected)
    finally:
        cpu.functions["use_sgemm"](cpu.sgemm)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # the test needs a process with threads
def test_a_forked_child_starts_its_own_threads(cpu: Library) -> None:
    cpu.functions["pool_size"](3)
    expected = results()
    child = os.fork()
    if child == 0:
        try:
            assert_same(results(), expected)
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert_same(results(), expected)


def test_several_callers_at_once(cpu: Library) -> None:
    cpu.functions["pool_size"](3)
    expected = results()
    found: list[list[np.ndarray]] = []
    callers = [threading.Thread(target=lambda: found.extend(results() for _ in range(5))) for _ in range(3)]
    for c in callers:
        c.start()
    for c in callers:
        c.join()
    assert len(found) == 15
    for each in found:
        assert_same(each, expected)


# ---------------------------------------------------------------- how many


def test_the_variable_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYLM_NUM_THREADS", "7")
    assert cores.thread_count() == 7


@pytest.mark.parametrize("wrong", ["0", "-1", "2.5", "two", "1025", " 2", "²"])
def test_a_wrong_number_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYLM_NUM_THREADS", wrong)
    with pytest.raises(ConfigError, match=r"TINYLM_NUM_THREADS is .*: expected a number from 1 to 1024"):
        cores.thread_count()


def test_without_it_the_cores_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYLM_NUM_THREADS", raising=False)
    monkeypatch.setattr(cores.sys, "platform", "linux")
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {3, 4, 9}, raising=False)
    for quota, expected in ((None, 3), (2, 2), (64, 3)):
        monkeypatch.setattr(cores, "cgroup_cores", lambda quota=quota: quota)
        assert cores.thread_count() == expected


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_quotas_of_cgroups(tmp_path: Path) -> None:
    proc, mount = tmp_path / "cgroup", tmp_path / "fs"
    assert cores.cgroup_cores(proc, mount) is None
    write(proc, "0::/outer/inner\n")
    assert cores.cgroup_cores(proc, mount) is None
    write(mount / "outer" / "inner" / "cpu.max", "max 100000\n")
    assert cores.cgroup_cores(proc, mount) is None
    write(mount / "outer" / "cpu.max", "150000 100000\n")
    assert cores.cgroup_cores(proc, mount) == 2  # the limit of the group above applies too
    write(mount / "cpu.max", "garbage\n")
    write(proc, "0::/\n")
    assert cores.cgroup_cores(proc, mount) is None
    write(proc, "5:cpu,cpuacct:/group\n4:memory:/group\n")
    write(mount / "cpu" / "group" / "cpu.cfs_quota_us", "50000\n")
    write(mount / "cpu" / "group" / "cpu.cfs_period_us", "100000\n")
    assert cores.cgroup_cores(proc, mount) == 1
    write(mount / "cpu" / "group" / "cpu.cfs_quota_us", "-1\n")
    assert cores.cgroup_cores(proc, mount) is None
