"""The calls that tests/gpu makes on a GPU cover every kernel, and count the memory that they can have."""

import types

from gpu_cases import CASES, free_bytes

from tinylm.engine.kernels import registry, updates


def test_every_kernel_is_tried() -> None:
    assert {case.name for case in CASES} >= {name for name, record in registry.items() if ("cuda", "float32") in record.kernels}
    tried = {"adamw", "squared_norm"}  # by tests/gpu/test_large_shapes.py
    assert tried >= {name for name, record in updates.items() if ("cuda", "float32") in record.kernels}


def test_what_cupy_keeps_of_freed_arrays_is_free() -> None:
    runtime = types.SimpleNamespace(memGetInfo=lambda: (1000, 9000))
    pool = types.SimpleNamespace(free_bytes=lambda: 500)
    card = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime), get_default_memory_pool=lambda: pool)
    assert free_bytes(card) == 1500
