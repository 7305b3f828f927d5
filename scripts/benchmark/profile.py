"""Profiles the steps of a workload with tinylm: the time of each op."""

import dataclasses
from typing import Any

import tinylm
from benchmark.tinylm_side import tinylm_side
from benchmark.workloads import Workload
from tinylm.engine.profiler import Profile


def profiled(work: Workload, device: str, precision: str) -> tuple[Profile, int]:
    """Returns the profile of a workload's steps and their number, without the first ones, which compile kernels and fill caches.
    precision: of a training step's products."""
    side = tinylm_side(work, device, precision)
    batches = work.batches(work.steps)
    first = max(1, work.steps // 4)
    for _ in range(first):
        side.step(next(batches))
    with tinylm.profile() as p:
        for rows in batches:
            side.step(rows)
    return p, work.steps - first


def as_record(profile: Profile, steps: int) -> dict[str, Any]:
    return {"steps": steps, "seconds": profile.seconds, "rest": profile.rest, "rows": [dataclasses.asdict(row) for row in profile.rows]}
