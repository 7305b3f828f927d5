"""What a run notes down on its way: records of training, validations, and the summary at its end."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tinylm.engine.devices import to_numpy
from tinylm.engine.random_keys import default_generator
from tinylm.errors import AnomalyError
from tinylm.train.checkpoints import model_arrays, save_arrays
from tinylm.train.failures import require_finite
from tinylm.train.gradient_norms import gradient_norms
from tinylm.train.metrics import memory_mb
from tinylm.train.progress import finish
from tinylm.train.run_folder import checkpoint_path

if TYPE_CHECKING:
    from tinylm.train.loop import Run

Report = Callable[[dict[str, Any]], None]


class Clock:
    """The seconds that a run trains; those of records, validations and checkpoints are left out."""

    def __init__(self) -> None:
        self.start(0)

    def start(self, step: int) -> None:
        """At the beginning, and after a checkpoint."""
        self.resume(step)
        self.saved = time.monotonic()  # when there was a checkpoint last

    def resume(self, step: int) -> None:
        """Training goes on after that step."""
        self.mark, self.step = time.perf_counter(), step

    def elapsed(self) -> float:
        """Seconds since training went on."""
        return time.perf_counter() - self.mark

    def minutes_unsaved(self) -> float:
        """Minutes since the last checkpoint."""
        return (time.monotonic() - self.saved) / 60


def log_record(run: "Run", report: Report) -> None:
    """A record of the steps since the last one, which must have been finite."""
    progress, step = run.progress, run.progress.step
    mean, norm = (float(to_numpy(a)) for a in (run.losses / (step - progress.logged_step), run.norm))
    require_finite(run, mean, norm)
    elapsed = run.clock.elapsed()
    progress.train_seconds += elapsed
    _write(
        run, report, step=step, loss=mean, lr=run.schedule(step - 1), grad_norm=norm, grad_norms=gradient_norms(run.model),
        tokens_per_second=run.tokens_between(run.clock.step, step) / elapsed, train_seconds=progress.train_seconds,
        memory_mb=memory_mb(run.config.device),
    )  # fmt: skip
    run.losses, progress.logged_step = run.losses * 0, step
    run.clock.resume(step)


def validate(run: "Run", report: Report) -> None:
    """A record of the validation loss; the weights are kept when it is the best so far."""
    step, progress = run.progress.step, run.progress
    drawn = default_generator.state
    with run.evaluated():
        loss = progress.val_loss = run.ranks.broadcast(run.validation_loss() if run.ranks.rank == 0 else None)
        default_generator.state = drawn  # ops with dropout draw keys even at rate 0: when a run validates must not change it
        if not np.isfinite(loss):
            raise AnomalyError(f"the validation loss is {loss} after step {step}: try a lower learning rate")
        _write(run, report, step=step, val_loss=loss)
        progress.since_best += step % run.config.eval_every == 0
        if loss < progress.best_val_loss:
            progress.best_val_loss, progress.best_step, progress.since_best = loss, step, 0
            path = run.folder / "checkpoints" / "best.safetensors"
            if run.ranks.rank == 0:
                save_arrays(path, model_arrays(run.model), {"step": step, "val_loss": loss})
    run.clock.resume(step)


def summarize(run: "Run") -> dict[str, Any]:
    """Ends a run: its last checkpoint, the average as the model's weights if there is one, and the summary, which is written too."""
    progress = run.progress
    if progress.val_loss is None:  # no step was made
        validate(run, lambda record: None)
    if not run.ranks.broadcast(checkpoint_path(run.folder, progress.step).exists()):
        run.save()
    if run.average:
        run.average.assign()
    tokens = run.tokens_between(0, progress.step)
    early = progress.step < run.config.steps
    summary = None
    if run.ranks.rank == 0:
        summary = finish(run.folder, run.model, model_arrays(run.model), progress, run.bytes_per_token, tokens, early)
    return run.ranks.broadcast(summary)


def _write(run: "Run", report: Report, **record: Any) -> None:
    if run.ranks.rank == 0:
        run.log.write(record)
        report(record)
