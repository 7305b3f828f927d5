"""What each rank of test_distributed.py runs: `mpiexec -n R python distributed_program.py CASE FOLDER`."""

import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tinylm.engine.tensor import Tensor
from tinylm.train import Run, TrainConfig
from tinylm.train.distributed import MPIRanks, check_same_weights

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 60
CONFIG = TrainConfig(
    steps=50, schedule_steps=50, block_size=8, n_layer=1, n_head=2, n_embd=16, n_hidden=16, batch_size=4, warmup=2, dropout=0.0,
    lr=1e-2, log_every=1, eval_every=25, save_every=20,
)  # fmt: skip


class Float64Run(Run):
    """A run with float64 parameters, converted before the optimiser packs them."""

    def train_step(self, k: int):
        loss, norm = super().train_step(k)
        assert loss.dtype == np.float64
        return loss, norm


def float64_run(config: TrainConfig, folder: Path, **settings) -> Run:
    """Returns a Run in double precision, whose model is built in float64."""
    from tinylm.train.tasks import language_modeling

    build = language_modeling.build_model

    def build_double(*args):
        model = build(*args)
        model.to(dtype="float64")
        return model

    language_modeling.build_model = build_double
    try:
        return Float64Run(config, folder, TEXT, **settings)
    finally:
        language_modeling.build_model = build


def trains(ranks: MPIRanks, folder: Path) -> None:
    """Trains three models in double precision; in one of them a rank accumulates over two micro-batches of one row each."""
    for model in ("gpt", "lstm", "gru"):
        config = dataclasses.replace(CONFIG, model=model, accumulate=2 if model == "gru" else 1)
        float64_run(config, folder / model, ranks=ranks).train()


def resumes(ranks: MPIRanks, folder: Path) -> None:
    """Trains with dropout and a carried state: 20 steps and then 30 more, and 50 without a stop."""
    config = dataclasses.replace(CONFIG, model="lstm", dropout=0.2, keep=9)
    Run(dataclasses.replace(config, steps=20), folder / "parts", TEXT, ranks=ranks).train()
    Run(config, folder / "parts", TEXT, resume=True, ranks=ranks).train()
    Run(config, folder / "whole", TEXT, ranks=ranks).train()


def diverges(ranks: MPIRanks, folder: Path) -> None:
    """Puts a NaN into a gradient of rank 1 alone."""
    run = Run(CONFIG, folder / "run", TEXT, ranks=ranks)
    gradients = run.gradients

    def spoilt(k: int):
        loss = gradients(k)
        if k >= 30 and ranks.rank == 1:
            next(iter(run.model.parameters())).grad.flat[0] = np.nan
        return loss

    run.gradients = spoilt
    run.train()


def masks(ranks: MPIRanks, folder: Path) -> None:
    run = Run(dataclasses.replace(CONFIG, dropout=0.5, steps=3), folder / "run", TEXT, ranks=ranks)
    run.train()
    keys = ranks.gather(np.array([run.state.generator.state]), axis=0)
    if ranks.rank == 0:
        print(json.dumps(keys.tolist()))


def stops(ranks: MPIRanks, folder: Path) -> None:
    """Tells rank 1 alone to stop, at step 7."""
    run = Run(CONFIG, folder / "run", TEXT, ranks=ranks)
    if ranks.rank == 1:
        signal.signal(signal.SIGTERM, lambda *_: setattr(run, "stop_requested", True))
        step = run.train_step

        def counted(k: int):
            if k == 6:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(k)

        run.train_step = counted
    assert run.train() is None
    steps = ranks.gather(np.array([run.progress.step]), axis=0)
    if ranks.rank == 0:
        print(json.dumps(steps.tolist()))


def at_step(run: Run, k: int, action) -> None:
    step = run.train_step

    def watched(now: int):
        if now == k:
            action()
        return step(now)

    run.train_step = watched


def fails(ranks: MPIRanks, folder: Path) -> None:
    run = Run(CONFIG, folder / "run", TEXT, ranks=ranks)

    def fail() -> None:
        raise RuntimeError("a disk has gone")

    if ranks.rank == 1:
        at_step(run, 30, fail)
    run.train()


def killed(ranks: MPIRanks, folder: Path) -> None:
    run = Run(CONFIG, folder / "run", TEXT, ranks=ranks)
    if ranks.rank == 1:
        at_step(run, 30, lambda: os.kill(os.getpid(), signal.SIGKILL))
    run.train()


def differs(ranks: MPIRanks, folder: Path) -> None:
    run = Run(CONFIG, folder / "run", TEXT, ranks=ranks)
    if ranks.rank == 1:
        next(iter(run.model.parameters())).data.flat[3] += 1e-3
    check_same_weights(ranks, run.model, "at the start")


def collectives(ranks: MPIRanks, folder: Path) -> None:
    mine = np.arange(4.0) * (1 + ranks.rank)
    ranks.average([mine])
    np.testing.assert_array_equal(mine, np.arange(4.0) * (1 + ranks.size) / 2)
    assert ranks.broadcast(ranks.rank, root=1) == 1
    assert ranks.any(ranks.rank == 1)
    assert not ranks.any(False)
    assert ranks.broadcast({"rank": ranks.rank}) == {"rank": 0}
    rows = ranks.gather(Tensor(np.full((2, 1, 3), ranks.rank)).data, axis=1)
    assert rows[0, :, 0].tolist() == list(range(ranks.size))
    ranks.barrier()
    before = os.environ.pop("TINYLM_NUM_THREADS", None)
    ranks.share_cores()
    assert int(os.environ["TINYLM_NUM_THREADS"]) == max(1, (os.cpu_count() or 1) // ranks.size) or before is None
    print("fine", flush=True)


def ends_early(ranks: MPIRanks, folder: Path, rank: int, end: Callable[[], object]) -> None:
    """Trains, and one rank ends in some way when it makes its 22nd step."""
    run = Run(CONFIG, folder / "run", TEXT, ranks=ranks)
    gradients = run.gradients

    def ending(k: int):
        if k == 21 and ranks.rank == rank:
            end()
        return gradients(k)

    run.gradients = ending
    run.train()


def stopped(ranks: MPIRanks, folder: Path) -> None:
    ends_early(ranks, folder, 1, lambda: os.kill(os.getpid(), signal.SIGSTOP))


def rank_0_stopped(ranks: MPIRanks, folder: Path) -> None:
    ends_early(ranks, folder, 0, lambda: os.kill(os.getpid(), signal.SIGSTOP))


def leaves(ranks: MPIRanks, folder: Path) -> None:
    ends_early(ranks, folder, 1, lambda: sys.exit(3))


def rank_0_leaves(ranks: MPIRanks, folder: Path) -> None:
    ends_early(ranks, folder, 0, sys.exit)


def vanishes(ranks: MPIRanks, folder: Path) -> None:
    ends_early(ranks, folder, 1, lambda: os._exit(5))


def all_leave(ranks: MPIRanks, folder: Path) -> None:
    sys.exit(4)


def works_long(ranks: MPIRanks, folder: Path) -> None:
    """Rank 0 computes for longer than a rank may be silent, while the other one waits for it."""

    def compute() -> None:
        end = time.monotonic() + 6
        while time.monotonic() < end:
            np.ones(10**6).sum()

    ends_early(ranks, folder, 0, compute)
    print("fine", flush=True)


def other_settings(ranks: MPIRanks, folder: Path) -> None:
    Run(dataclasses.replace(CONFIG, dropout=0.1 * ranks.rank), folder / "run", TEXT, ranks=ranks).train()


def other_data(ranks: MPIRanks, folder: Path) -> None:
    Run(CONFIG, folder / "run", TEXT.replace("lazy", "azyl") if ranks.rank else TEXT, ranks=ranks).train()


if __name__ == "__main__":
    with MPIRanks() as ranks_here:
        globals()[sys.argv[1]](ranks_here, Path(sys.argv[2]))
