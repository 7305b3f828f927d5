"""The steps of several workloads with one library in one process, for `first_card.py`: a line of JSON for each.

python -m benchmark.card_steps SIDE DEVICE WRONG WORKLOAD...: tinylm, torch, tinylm-tf32 or torch-tf32; WRONG: files of kernels/cuda, with
spaces between, whose ops are left to their references.
"""

import dataclasses
import gc
import itertools
import json
import statistics
import sys
import time
from typing import Any

from benchmark.process import maker
from benchmark.workloads import CARD_WORKLOADS, WORKLOADS, Workload

STEPS = {"gpt-small": 100, "gpt-medium": 40, "gpt-medium-batch-64": 24, "gpt-large": 12}
OPS = {  # file of kernels/cuda -> the ops that launch it, where they have another name
    "column_sums": ("linear", "layer_norm", "rms_norm", "rotary_heads", "swiglu_linear"),
    "rotary": ("rotary", "rotary_heads"),
    "swiglu": ("swiglu", "swiglu_linear"),
    "round_to_bfloat16": (),
}


def without(files: list[str]) -> list[str]:
    """Takes the kernels of these files out of tinylm, and returns the ops that its references serve now."""
    import tinylm.optim  # noqa: F401 - it registers the updates
    from tinylm.engine.kernels import registry, updates

    left = []
    for file in files:
        for op in OPS.get(file, ("scaled_dot_product_attention" if "attention" in file else file,)):
            if (registry.get(op) or updates[op]).kernels.pop(("cuda", "float32"), None):
                left.append(op)
    return left


def measured(make: Any, work: Workload, device: str) -> dict[str, Any]:
    """Returns the milliseconds of a step: the median on the device, its range, and the smallest that the host took to queue one."""
    built = make(work, device)
    marks, queued = [built.mark()], []
    for rows in work.batches(work.steps):
        start = time.perf_counter()
        built.step(rows)
        queued.append(time.perf_counter() - start)
        marks.append(built.mark())
    times = [built.seconds(a, b) for a, b in itertools.pairwise(marks)]
    kept = times[work.steps // 4 :]
    seconds = statistics.median(kept)
    return {
        "ms": 1e3 * seconds, "range_ms": [1e3 * min(kept), 1e3 * max(kept)], "first_ms": 1e3 * times[0],
        "host_ms": 1e3 * min(queued[work.steps // 4 :]), "tokens_per_second": work.tokens / seconds, "megabytes": built.megabytes(),
    }  # fmt: skip


def main(side: str, device: str, wrong: str, *names: str) -> None:
    library, _, tf32 = side.partition("-")
    left = without(wrong.split()) if library == "tinylm" else []
    if library == "torch":
        import torch

        torch.set_float32_matmul_precision("high" if tf32 else "highest")
    make = maker(library)
    for name in names:
        work = (WORKLOADS | CARD_WORKLOADS)[name]
        row: dict[str, Any] = {"side": side, "workload": name, "references_for": left}
        try:
            row |= measured(make, dataclasses.replace(work, steps=STEPS.get(name, work.steps)), device)
        except Exception as error:
            row["failed"] = f"{type(error).__name__}: {error}"[:1500]
        print(json.dumps(row), flush=True)
        if any(word in row.get("failed", "") for word in ("llegal", "LaunchFailure", "unspecified launch", "isaligned")):
            return  # nothing works in this process any more
        gc.collect()


if __name__ == "__main__":
    main(*sys.argv[1:])
