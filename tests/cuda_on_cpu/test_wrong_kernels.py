"""The emulator reports every mistake that a kernel may make."""

import numpy as np
import pytest

from . import emulator
from .emulator import LaunchError, Module

pytestmark = pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))

WRONG = {  # what: (its line in the kernel `wrong`, the message)
    "a barrier that a thread misses": ("if (i < 3) return; __syncthreads();", r"thread \d waits, thread \d has exited"),
    "two barriers instead of one": (
        "if (i < 3) {\n __syncthreads();\n } else __syncthreads();",
        "__syncthreads diverges: thread 0 is at line 3",
    ),
    "a lane outside its mask": ("y[i] = __shfl_sync(0xf, x[i], 1);", "lane 4 is not in its own mask 0xf"),
    "a mask with an absent lane": ("y[i] = __shfl_sync(0xff, x[i], 1);", "mask 0xff names lane 5, which exited or does not exist"),
    "a source outside the mask": ("if (i < 2) y[i] = __shfl_sync(0x3, x[i], 4);", "lane 0 reads lane 4, which is outside mask 0x3"),
    "lanes that never come": (
        "if (i == 0) __syncwarp(0x1f); else __syncthreads();",
        "waits at line 2 for lanes of mask 0x1f that never come",
    ),
    "a write after the end": ("y[5000 + i] = 1;", r"out of bounds of argument 1: byte 200\d\d of 20"),
    "a write one after the end": ("y[i + 1] = x[i];", r"out of bounds: a write to byte 2\d of argument 1, which has 20"),
    "an update in place one after the end": ("y[i + 1] = 0.5f * y[i + 1];", r"out of bounds: a write to byte 2\d of argument 1"),
    "a read one after the end": ("y[i] = x[i + 1];", "depends on the order"),
    "a write before the beginning": ("y[i - 1] = x[i];", "out of bounds"),
    "a read before the beginning": ("y[i] = x[i - 1000];", r"out of bounds of argument 0: byte -\d+ of 20"),
    "a null pointer": ("y[i] = *(const float*)(unsigned long long)(i - i);", "a null or misaligned pointer"),
    "a wild pointer": ("*(float*)((char*)y + (1ll << 40)) = 1;", "an address in no argument"),
    "a misaligned vector": ("y[i] = ((const float4*)(x + 1))->x;", "a null or misaligned pointer"),
    "an index outside shared memory": ("s[i] = x[i];", "an index outside its array"),
    "an overflow": ("y[i] = 0x7fffffff + (int)x[i];", r"signed integer overflow in \+"),
    "a division by zero": ("y[i] = 7 / (int)(x[i] - x[i]);", "division by zero"),
    "a shift too far": ("y[i] = 1 << (int)(x[i] + 31);", "a shift by"),
    "a number too large for its integer": ("y[i] = (int)(x[i] * 1e20f);", "outside the range of the integer type"),
    "a race for one place": ("y[0] = i;", "the result depends on the order of the threads"),
    "a read before a barrier": ("s[i & 3] = i;\n y[i] = s[(i + 1) & 3];", "the result depends on the order of the threads"),
    "too many local variables": ("volatile float big[20000]; big[i] = x[i]; y[i] = big[i];", "more than 60 KB of local variables"),
}


@pytest.mark.parametrize("kilobytes", [61, 70, 300])
@pytest.mark.parametrize("thread", [0, 4])
def test_a_frame_larger_than_its_stack(kilobytes: int, thread: int) -> None:
    """The frame may also end in another thread's stack, or beyond the first stack."""
    module = Module(f"""
    extern "C" __global__ void deep(float* y) {{
      if (threadIdx.x != {thread}) return;
      volatile float big[{256 * kilobytes}];
      big[0] = 1;
      y[0] = big[0];
    }}""")
    with pytest.raises(LaunchError, match=rf"thread \({thread}, 0, 0\): out of bounds.* more than 60 KB of local variables"):
        module.get_function("deep")((1,), (5,), (np.zeros(1, np.float32),))


@pytest.mark.parametrize("what", WRONG)
def test_wrong_kernels(what):
    line, message = WRONG[what]
    module = Module(
        f'extern "C" __global__ void wrong(const float* x, float* y) {{ __shared__ float s[4]; int i = threadIdx.x; (void)s;\n{line} }}'
    )
    x, y = np.arange(1, 6, dtype=np.float32), np.zeros(5, np.float32)
    with pytest.raises(LaunchError, match=message):
        module.get_function("wrong")((1,), (5,), (x, y))
    np.testing.assert_array_equal(y, 0, err_msg="a launch that failed wrote to its arrays")
