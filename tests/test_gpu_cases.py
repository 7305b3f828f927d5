"""The calls that tests/gpu makes on a GPU cover every kernel."""

from gpu_cases import CASES

from tinylm.engine.kernels import registry, updates


def test_every_kernel_is_tried() -> None:
    assert {case.name for case in CASES} >= {name for name, record in registry.items() if ("cuda", "float32") in record.kernels}
    tried = {"adamw", "squared_norm"}  # by tests/gpu/test_large_shapes.py
    assert tried >= {name for name, record in updates.items() if ("cuda", "float32") in record.kernels}
