"""Runs every CUDA kernel, with each array in a separate allocation: the program that compute-sanitizer watches."""

import numpy as np
from op_cases import run

from tinylm.engine.devices import device_namespace, to_device, to_numpy
from tinylm.engine.kernels import launches, registry, updates
from tinylm.engine.tensor import Tensor
from tinylm.optim import AdamW
from tinylm.verify.arguments import on_device
from tinylm.verify.samples import samples_of


def main() -> None:
    space = device_namespace("cuda")
    space.cuda.set_allocator(None)  # CuPy's pool would hide an access beyond an array's end
    for name, record in registry.items():
        if ("cuda", "float32") in record.kernels:
            for sample in samples_of(name):
                run(name, on_device(sample.args, "cuda", np.float32), dict(sample.settings))
    parameter = Tensor(to_device(np.ones((37, 41), np.float32), "cuda"), requires_grad=True)
    optimizer = AdamW([parameter])
    for _ in range(2):
        optimizer.zero_grad()
        (parameter * parameter).sum().backward()
        optimizer.step(max_norm=1.0)
    to_numpy(parameter.data)
    kernels = {name for name, record in [*registry.items(), *updates.items()] if ("cuda", "float32") in record.kernels}
    idle = sorted(name for name in kernels if not launches[name, "cuda"])
    if idle:
        raise SystemExit(f"no kernel ran for {', '.join(idle)}")
    print("every kernel ran")


if __name__ == "__main__":
    main()
