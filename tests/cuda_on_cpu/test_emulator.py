"""The emulator: small kernels give the right results, what cannot be compiled or launched is refused, and the sanitizers run."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from . import emulator
from .emulator import BuildError, LaunchError, Module
from .emulator.recording import Recorder, SanitizerError, replay

pytestmark = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))

KERNELS = Module("""
extern "C" __global__ void add(const float* a, const float* b, float* y, long long n) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = a[i] + b[i];
}
// The sum of each block's values, through the warps' shuffles and shared memory.
extern "C" __global__ void block_sum(const float* x, float* y) {
  __shared__ float warps[32];
  float v = x[blockIdx.x * blockDim.x + threadIdx.x];
  for (int k = 16; k; k /= 2) v += __shfl_xor_sync(0xffffffffu, v, k);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x == 0) {
    float total = 0;
    for (int w = 0; w < blockDim.x / 32; ++w) total += warps[w];
    y[blockIdx.x] = total;
  }
}
extern "C" __global__ void reverse(int* x) {
  extern __shared__ int all[];
  all[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = all[blockDim.x - 1 - threadIdx.x];
}
extern "C" __global__ void lanes(const int* x, int* down, int* up, int* from, unsigned* votes) {
  const int i = threadIdx.x;
  down[i] = __shfl_down_sync(0xffffffffu, x[i], 3, 16);
  up[i] = __shfl_up_sync(0xffffffffu, x[i], 3);
  from[i] = __shfl_sync(0xffffffffu, x[i], 5, 8);
  votes[i] = __ballot_sync(0xffffffffu, x[i] % 2);
}
extern "C" __global__ void places(int* y) {
  const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  y[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}
extern "C" __global__ void high_bits(const unsigned long long* a, unsigned long long* y) { y[0] = __umul64hi(a[0], a[1]); }
extern "C" __global__ void count(const int* x, int* hits, int n) {
  if (threadIdx.x < n) atomicAdd(&hits[x[threadIdx.x]], 1);
}
""")


def launch(name, grid, block, *args, **named):
    KERNELS.get_function(name)(grid, block, args, **named)


def test_blocks_and_a_guard():
    a, b = np.random.default_rng(0).standard_normal((2, 300)).astype(np.float32)
    y = np.full(300, np.nan, np.float32)
    launch("add", (3,), (128,), a, b, y, np.int64(300))
    np.testing.assert_array_equal(y, a + b)


def test_shuffles_and_shared_memory():
    x = np.random.default_rng(0).integers(-9, 9, 384).astype(np.float32)
    y = np.empty(3, np.float32)
    launch("block_sum", (3,), (128,), x, y)
    np.testing.assert_array_equal(y, x.reshape(3, 128).sum(1))


def test_dynamic_shared_memory():
    x = np.arange(70, dtype=np.int32)
    launch("reverse", (1,), (70,), x, shared_mem=280)
    np.testing.assert_array_equal(x, np.arange(70)[::-1])


def test_warp_operations():
    x = np.random.default_rng(0).integers(0, 99, 32).astype(np.int32)
    down, up, source, votes = (np.empty(32, np.int32) for _ in range(4))
    launch("lanes", (1,), (32,), x, down, up, source, votes.view(np.uint32))
    i = np.arange(32)
    np.testing.assert_array_equal(down, x[np.where(i % 16 + 3 < 16, i + 3, i) % 32])
    np.testing.assert_array_equal(up, x[np.where(i < 3, i, i - 3)])
    np.testing.assert_array_equal(source, x[i // 8 * 8 + 5])
    np.testing.assert_array_equal(votes.view(np.uint32), np.uint32(((x % 2) << i.astype(np.int64)).sum()))


def test_indices_in_three_directions():
    y = np.full(8 * 30, -1, np.int32)
    launch("places", (2, 2, 2), (5, 3, 2), y)
    np.testing.assert_array_equal(y, (1000 * np.arange(8)[:, None] + np.arange(30)).reshape(-1))


def test_wide_products_and_atomics_of_integers():
    a, y = np.array([2**63 + 12345, 2**62 - 7], np.uint64), np.zeros(1, np.uint64)
    launch("high_bits", (1,), (1,), a, y)
    assert int(y[0]) == int(a[0]) * int(a[1]) >> 64
    x, hits = np.random.default_rng(0).integers(0, 4, 100).astype(np.int32), np.zeros(4, np.int32)
    launch("count", (1,), (128,), x, hits, np.int32(100))
    np.testing.assert_array_equal(hits, np.bincount(x, minlength=4))


def test_arrays_that_share_memory_share_it_in_the_kernel():
    """Arrays updated in place, and a view that begins later."""
    a = np.arange(8, dtype=np.float32)
    launch("add", (1,), (32,), a, a, a, np.int64(8))
    np.testing.assert_array_equal(a, 2 * np.arange(8))
    launch("add", (1,), (32,), a[2:4], a[4:], a[:2], np.int64(2))
    np.testing.assert_array_equal(a, [4 + 8, 6 + 10, 4, 6, 8, 10, 12, 14])


def test_a_denormal_number_is_zero():
    tiny, y = np.full(1, 1e-40, np.float32), np.ones(1, np.float32)
    launch("add", (1,), (1,), tiny, np.zeros(1, np.float32), y, np.int64(1))
    assert y[0] == 0
    assert tiny[0] != 0
    assert np.float32(1e-40) + np.float32(0) != 0  # and the process's own setting is unchanged


def test_every_library_runs_on_the_same_stacks():
    """A process may have some 65,000 mappings, and the stacks with their unreadable pages are 2,048 of them."""
    counts = []
    for value in (1, 2):
        y = np.zeros(1, np.float32)
        Module(f'extern "C" __global__ void fill(float* y) {{ y[0] = {value}; }}').get_function("fill")((1,), (1,), (y,))
        assert y[0] == value
        counts.append(len(Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()))
    assert counts[1] - counts[0] < 50


def test_memory_begins_as_nan():
    """Shared memory that nobody has written to is NaN."""
    module = Module("""
    extern "C" __global__ void unwritten(float* y) {
      __shared__ float s[32];
      extern __shared__ float d[];
      y[0] = s[5];
      y[1] = d[1];
    }""")
    for _ in range(2):  # even if an earlier block has written there
        y = np.zeros(2, np.float32)
        module.get_function("unwritten")((1,), (1,), (y,), shared_mem=8)
        assert np.isnan(y).all()


def test_what_does_not_compile():
    with pytest.raises(BuildError, match="the sum would depend on the order of the threads"):
        Module('extern "C" __global__ void f(float* y) { atomicAdd(y, 1.0f); }').get_function("f")
    with pytest.raises(BuildError, match=r"nonsense.* was not declared"):
        Module('extern "C" __global__ void f(float* y) { nonsense(y); }').get_function("f")
    with pytest.raises(BuildError, match="at least one extern"):
        Module("int f() { return 1; }").get_function("f")
    with pytest.raises(LaunchError, match="no kernel 'multiply', only add, block_sum"):
        KERNELS.get_function("multiply")


@pytest.mark.parametrize(
    ("grid", "block", "change", "message"),
    [
        ((1,), (2048,), {}, "invalid configuration"),
        ((1,), (1, 1, 65), {}, "invalid configuration"),
        ((1, 70000), (1,), {}, "invalid configuration"),
        ((1,), (32,), {3: 8}, "argument 3: a int64 scalar is expected, got int"),
        ((1,), (32,), {3: np.int32(8)}, "argument 3: a int64 scalar is expected, got int32"),
        ((1,), (32,), {0: np.ones(8)}, "argument 0: an array of float32 is expected, got an array of float64"),
        ((1,), (32,), {0: np.float32(1)}, "argument 0: an array of float32 is expected, got float32"),
        ((1,), (32,), {2: np.broadcast_to(np.float32(1), 8)}, "argument 2: the array is a broadcast"),
        ((1,), (32,), {1: np.uintp(0)}, "a null or misaligned pointer"),
    ],
)
def test_launches_that_are_refused(grid, block, change, message):
    args = [np.ones(8, np.float32), np.ones(8, np.float32), np.ones(8, np.float32), np.int64(8)]
    for i, a in change.items():
        args[i] = a
    with pytest.raises(LaunchError, match=message):
        launch("add", grid, block, *args)
    with pytest.raises(LaunchError, match="3 arguments for 4 parameters"):
        launch("add", (1,), (32,), *args[:3])
    with pytest.raises(LaunchError, match="60000 bytes of dynamic shared memory need"):
        launch("reverse", (1,), (1,), np.zeros(1, np.int32), shared_mem=60000)


# ---------------------------------------------------------------- the sanitizers

GOOD = """
extern "C" __global__ void spread(const float* x, float* y) {
  __shared__ float first;
  if (threadIdx.x == 0) first = x[0];
  __syncthreads();
  y[threadIdx.x] = first;
}"""
RACE = GOOD.replace("if (threadIdx.x == 0)", "")  # all threads write the same value
BEHIND = """
__device__ void put(float* to, float v) { *to = v; }
extern "C" __global__ void behind(const float* x, float* y) {
  __shared__ float s[40];
  put(s + threadIdx.x, x[threadIdx.x]);
  y[threadIdx.x] = x[threadIdx.x];
}"""


def recorded(code, name, block):
    """Returns a recorder that has seen one launch."""
    x, y = np.ones(block, np.float32), np.zeros(block, np.float32)
    with Recorder() as recorder:
        Module(code).get_function(name)((1,), (block,), (x, y))
    return recorder


@pytest.mark.parametrize("mode", ["asan", "tsan"])
def test_a_good_launch_repeats_under_a_sanitizer(mode):
    replay(recorded(GOOD, "spread", 64), mode)


def test_races_that_no_order_shows_are_found_by_tsan():
    with pytest.raises(SanitizerError, match="data race"):
        replay(recorded(RACE, "spread", 64), "tsan")


def test_shared_memory_beyond_its_end_is_found_by_asan():
    with pytest.raises(SanitizerError, match="buffer-overflow"):
        replay(recorded(BEHIND, "behind", 48), "asan")


def test_a_verdict_is_kept_and_a_failure_is_not():
    good = recorded(GOOD, "spread", 64)
    replay(good, "tsan")
    assert replay(good, "tsan") == 0  # programs that ran
    bad = recorded(BEHIND, "behind", 48)
    for _ in range(2):
        with pytest.raises(SanitizerError):
            replay(bad, "asan")


def test_a_launch_on_arrays_at_other_addresses_is_the_same():
    """Otherwise its verdict would not be found again, since the addresses of arrays differ from run to run."""
    records = []
    for first, second in [(0, 64), (64, 0)]:
        memory = np.zeros(96, np.float32)
        x, y = memory[first : first + 32], memory[second : second + 32]
        x[:] = np.arange(32)
        with Recorder() as recorder:
            launch("add", (1,), (32,), x, x[8:], y, np.int64(24))
        records.append(recorder.launches)
    assert records[0] == records[1]


def test_signals_are_as_before_after_a_launch():
    """A crash elsewhere in the process still ends it."""
    code = (
        "import ctypes, sys, numpy as np; sys.path.insert(0, sys.argv[1]);"
        "from cuda_on_cpu.emulator import Module;"
        "k = Module('extern \"C\" __global__ void f(float* y) { y[0] = 1; }').get_function('f');"
        "k((1,), (1,), (np.zeros(1, np.float32),)); ctypes.string_at(8)"
    )
    done = subprocess.run([sys.executable, "-c", code, Path(__file__).parents[1]], capture_output=True, text=True)
    assert done.returncode == -signal.SIGSEGV, done.stderr
