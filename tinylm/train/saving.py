"""How a run takes its folder, and when and what it saves there."""

from typing import TYPE_CHECKING, Any

from tinylm.data import Corpus
from tinylm.engine.devices import to_numpy
from tinylm.engine.random_keys import default_generator
from tinylm.errors import CheckpointError
from tinylm.train.checkpoints import save_arrays
from tinylm.train.distributed import check_same_weights, rank_0_first, separate_draws
from tinylm.train.failures import require_finite
from tinylm.train.metrics import MetricsLog
from tinylm.train.preparation import start_folder
from tinylm.train.run_folder import RunLock, checkpoint_path, keep_newest, newest_whole, refuse_used
from tinylm.train.snapshots import restore, snapshot

if TYPE_CHECKING:
    from tinylm.train.loop import Run


def open_folder(run: "Run", resume: bool, record: dict[str, Any], text: str | Corpus = "") -> None:
    """Takes the folder: restores the newest checkpoint, or writes the record as config.json, and data.json.

    Errors: CheckpointError when another process has it, or when it holds a run already.
    """
    run.lock = RunLock(run.folder)
    writes = run.ranks.rank == 0
    with rank_0_first(run.ranks):  # what it sets aside, the others do not meet
        if writes:
            run.lock.acquire()
        try:
            if writes and not resume:
                refuse_used(run.folder)
            if resume:
                newest_whole(run.folder, lambda path, arrays, found: restore(run, path, arrays, found), set_aside=writes)
            elif writes:
                start_folder(run.folder, record, text)
            if writes:
                run.log = MetricsLog(run.folder / "metrics.jsonl", run.progress.step)
        except CheckpointError:
            run.lock.release()
            raise
    separate_draws(run.ranks, default_generator)
    check_same_weights(run.ranks, run.model, "at the start")


def save_is_due(run: "Run") -> bool:
    """By steps, or by the clock: when a run saves changes nothing in it."""
    due = run.progress.step % run.config.save_every == 0 or 0 < run.config.save_minutes <= run.clock.minutes_unsaved()
    return run.ranks.broadcast(due)  # clocks differ


def save_checkpoint(run: "Run") -> None:
    """Writes checkpoints/step-N.safetensors: all that a resume needs, in one file. The last config.keep stay.

    Errors: AnomalyError when a loss since the last record is not finite: nothing is written then.
    """
    require_finite(run, float(to_numpy(run.losses)), 0.0)
    run.progress.train_seconds += run.clock.elapsed()
    check_same_weights(run.ranks, run.model, f"after step {run.progress.step}")
    arrays, record = snapshot(run)
    if run.ranks.rank == 0:
        save_arrays(checkpoint_path(run.folder, run.progress.step), arrays, record)
        keep_newest(run.folder, run.config.keep)
    run.clock.start(run.progress.step)  # saving is no training
