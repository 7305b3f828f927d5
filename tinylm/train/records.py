"""What a run writes: training records, validations, checkpoints, and the summary at its end."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data.unknown import NOT_COUNTED, Unknown
from tinylm.engine.devices import to_numpy
from tinylm.engine.products import products
from tinylm.engine.random_keys import Generator, drawing_from, philox
from tinylm.errors import AnomalyError
from tinylm.files.json_files import write_json
from tinylm.train.checkpoints import model_arrays, save_arrays
from tinylm.train.distributed import check_same_weights
from tinylm.train.metrics import gradient_norms, memory_mb
from tinylm.train.run_folder import checkpoint_path, keep_newest
from tinylm.train.snapshots import snapshot
from tinylm.train.state import Progress, RunState

Report = Callable[[dict[str, Any]], None]
_SAMPLES = 1 << 63  # streams of a seed from this number on are for samples; the others count from 0


def log_record(state: RunState, report: Report) -> None:
    """Writes the record of the steps since the last one."""
    progress, step = state.progress, state.progress.step
    elapsed = state.clock.elapsed()
    progress.train_seconds += elapsed
    _write(state, report, state.task.epoch_record(step) or _usual_record(state, elapsed))
    state.losses, progress.logged_step = state.losses * 0, step
    state.clock.resume(step)


def _usual_record(state: RunState, elapsed: float) -> dict[str, Any]:
    step, logged, task = state.progress.step, state.progress.logged_step, state.task
    mean, norm = (float(to_numpy(a)) for a in (state.losses / (step - logged), state.norm))
    return {
        "step": step, "loss": mean, "lr": task.schedule(step - 1), "grad_norm": norm, "grad_norms": gradient_norms(task.model),
        "tokens_per_second": task.tokens_between(state.clock.step, step) / elapsed, "train_seconds": state.progress.train_seconds,
        "memory_mb": memory_mb(task.config.device),
    }  # fmt: skip


def validate(state: RunState, report: Report) -> None:
    """Writes a record of the validation loss, and keeps the weights when it is the best so far.

    Raises AnomalyError for a loss that is not finite.
    """
    step, progress, ranks = state.progress.step, state.progress, state.ranks
    drawn = state.generator.state
    with state.evaluated():
        with drawing_from(state.generator):
            loss = progress.val_loss = ranks.broadcast(state.task.validation_loss() if ranks.rank == 0 else None)
        state.generator.state = drawn  # ops with dropout draw keys even at rate 0: when a run validates must not change it
        if not np.isfinite(loss):
            raise AnomalyError(f"the validation loss is {loss} after step {step}: try a lower learning rate")
        _write(state, report, {"step": step, "val_loss": loss})
        progress.since_best += step % state.task.config.eval_every == 0
        if loss < progress.best_val_loss:
            progress.best_val_loss, progress.best_step, progress.since_best = loss, step, 0
            if ranks.rank == 0:
                path = state.folder / "checkpoints" / "best.safetensors"
                save_arrays(path, model_arrays(state.task.model), {"step": step, "val_loss": loss})
    state.clock.resume(step)


def write_sample(state: RunState, report: Report) -> None:
    """Writes a record of a text by the model, if the task has one to show.

    It is drawn from a stream of its own, which the seed and the step select, so that the training draws the same numbers with samples as
    without, and a resumed run the same samples.
    """
    step, generator = state.progress.step, Generator(state.task.config.seed)
    if state.ranks.rank:
        return
    random = np.random.Generator(philox((generator.state[0], _SAMPLES + step)))
    with state.clock.paused(), state.evaluated(), drawing_from(generator):
        text = state.task.sample(random)
    if text is not None:
        _write(state, report, {"step": step, "sample": text})


def _write(state: RunState, report: Report, record: dict[str, Any]) -> None:
    if state.log is not None:
        state.log.write(record)
    if state.ranks.rank == 0:
        report(record)


def save_checkpoint(state: RunState) -> None:
    """Writes checkpoints/step-N.safetensors: all that a resume needs, in one file. The last config.keep stay."""
    progress, ranks = state.progress, state.ranks
    progress.train_seconds += state.clock.elapsed()
    check_same_weights(ranks, state.task.model, f"after step {progress.step}")
    arrays, record = snapshot(state)
    if ranks.rank == 0:
        save_arrays(checkpoint_path(state.folder, progress.step), arrays, dict(record))
        keep_newest(state.folder, state.task.config.keep)
    state.clock.start(progress.step)  # saving is no training


def summarize(state: RunState) -> dict[str, Any]:
    """Makes the average the model's weights if there is one; writes model.safetensors and summary.json, and returns the summary."""
    if state.average:
        state.average.assign()
    task, progress, summary = state.task, state.progress, None
    if state.ranks.rank == 0:
        with drawing_from(state.generator), products(task.config.precision):
            results = task.results(progress.train_seconds)
        if results is None:
            tokens, early = task.tokens_between(0, progress.step), progress.step < task.config.steps
            summary = summary_of(progress, task.model.num_parameters(), task.bytes_per_token, tokens, early, task.unknown)
            results = summary, {"step": progress.step, "val_loss": progress.val_loss}
        summary, note = results
        write_results(state.folder, model_arrays(task.model), summary, note)
    return state.ranks.broadcast(summary)


def summary_of(
    progress: Progress, parameters: int, bytes_per_token: float, tokens: int, early: bool = False, unknown: Unknown = NOT_COUNTED
) -> dict[str, Any]:  # fmt: skip
    """Returns what summary.json says of a run that has read so many tokens; unknown: words of the validation part. The loss per
    token has <unk> in their place, the loss per byte their spelling too."""
    loss: Any = progress.val_loss
    counted: dict[str, Any] = {"val_tokens": unknown.tokens} if unknown.tokens else {}
    if unknown.unknown:
        counted |= {"val_unknown": unknown.unknown, "val_spelling": None if unknown.nats is None else unknown.per_token}
    if unknown.own:
        counted["val_own_unknown"] = unknown.own
    return {
        "val_loss": loss,
        "val_nats_per_byte": (loss + unknown.per_token) / bytes_per_token,
        **counted,
        "best_val_loss": progress.best_val_loss,
        "best_step": progress.best_step,
        "steps": progress.step,
        "stopped_early": early,
        "parameters": parameters,
        "train_seconds": progress.train_seconds,
        "tokens_per_second": tokens / progress.train_seconds if progress.train_seconds else 0.0,
    }


def write_results(folder: Path, arrays: Mapping[str, Any], summary: dict[str, Any], note: dict[str, Any]) -> None:
    """Writes model.safetensors, with the note in its header, and summary.json."""
    save_arrays(folder / "model.safetensors", arrays, note)
    write_json(folder / "summary.json", summary)
