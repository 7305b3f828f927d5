"""A loss or gradient that is not finite: which step, which parameter, which op, and all that repeating it needs.

RUN/failure/ then holds report.json and state.safetensors: the run before the step as a checkpoint has it, and
the batch as batch.*. `tinylm.train.replay` repeats the step from these two and config.json alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.engine.anomalies import detect_anomaly
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import to_numpy
from tinylm.errors import AnomalyError, CheckpointError, printable
from tinylm.files.json_files import without_nan, write_json
from tinylm.train.checkpoints import save_arrays
from tinylm.train.run_folder import newest_whole
from tinylm.train.snapshots import restore, snapshot
from tinylm.train.state import RunState

Gradients = Callable[[int], Array]  # fills the parameters' .grad with the gradients of a step, and returns its loss


def describe_failure(state: RunState, gradients: Gradients, k: int) -> AnomalyError:
    """Returns the error to stop with if step k computes a value that is not finite; the state is the one before the step.

    Writes the folder failure/.
    """
    report = examine(state, gradients, k)
    report = state.ranks.broadcast(report, root=_first_failed(state, report))
    folder = state.folder / "failure"
    state.progress.step = k
    arrays, record = snapshot(state)
    arrays = {**arrays, **{f"batch.{name}": a for name, a in state.task.batch_arrays(k).items()}}
    if state.ranks.rank:
        return AnomalyError(explained(report))
    try:
        step = {"starts_afresh": state.task.starts_afresh(k), "precision": state.task.config.precision}
        save_arrays(folder / "state.safetensors", arrays, {**record, **step})
        write_json(folder / "report.json", report)
        kept = f"the batch, the weights before and the random state are in {folder}: python -m tinylm replay {state.folder} repeats it"
    except CheckpointError as problem:
        kept = f"what repeats it could not be kept: {problem}"
    return AnomalyError(f"{printable(explained(report), 280)}; nothing was updated; {kept}")


def _first_failed(state: RunState, report: dict[str, Any]) -> int:
    """Returns the first rank whose own loss or gradient is not finite, or 0 if no rank's is."""
    failed = any(isinstance(report[name], str) for name in ("loss", "gradient_norm"))
    return int(np.argmax(state.ranks.gather(np.array([[failed]]), axis=1)))


def find_failure(state: RunState, step: Callable[[int], Any], loss: float, norm: float) -> AnomalyError:
    """Returns the error for a loss or gradient norm that was found not to be finite some steps after it was computed.

    A run repeats itself bit for bit: it returns to its newest checkpoint and repeats its steps with `step`, which checks
    each one and raises the error of `describe_failure` for the first that fails.
    """
    first, last = state.progress.logged_step + 1, state.progress.step
    seen = f"the training loss is {loss} and the gradient norm {norm} between steps {first} and {last}"
    try:
        newest_whole(state.folder, lambda path, arrays, record: restore(state, path, arrays, record))
    except CheckpointError as error:
        return AnomalyError(f"{seen}: try a lower learning rate (which step it was is not known: {error})")
    begin = state.progress.step
    try:
        for k in range(begin, last):
            step(k)
    except AnomalyError as error:
        return error
    return AnomalyError(f"{seen}, but not when the steps from {begin + 1} on were repeated: the device computes wrongly now and then")


def examine(state: RunState, gradients: Gradients, k: int) -> dict[str, Any]:
    """Returns step k's loss, gradients and first op that is not finite, from two passes, the second one under
    `detect_anomaly`. Weights, optimiser, random numbers and carried state stay as they are."""
    before = state.generator.state, state.carried
    op = None
    try:
        with np.errstate(all="ignore"):
            loss = float(to_numpy(gradients(k)))
            norm = float(to_numpy(state.task.optimizer.grad_norm()))
            parameters = {name: _statistics(p) for name, p in state.task.model.named_parameters()}
            state.generator.state, state.carried = before
            with detect_anomaly():
                gradients(k)
    except AnomalyError as error:
        op = error.report
    finally:
        state.generator.state, state.carried = before
        state.task.optimizer.zero_grad()
    return {"step": k + 1, "loss": without_nan(loss), "gradient_norm": without_nan(norm), "op": op, "parameters": parameters}


def explained(report: dict[str, Any]) -> str:
    """Returns a report in one line."""
    text = f"step {report['step']}: the loss is {report['loss']}, the gradient norm {report['gradient_norm']}"
    for what in ("weights", "gradient"):
        for name, statistics in report["parameters"].items():
            bad = statistics[what] and statistics[what]["not_finite"]
            if bad:
                return f"{text}; {bad} of the {statistics['size']} {what} of {name!r} are not finite" + _op(report)
    return f"{text}; every weight and gradient is finite" + _op(report)


def _op(report: dict[str, Any]) -> str:
    return f"; first {report['op']}" if report["op"] else "; no op made it out of finite values"


def _statistics(p: Any) -> dict[str, Any]:
    return {"size": p.size, "weights": _of(p.data), "gradient": None if p.grad is None else _of(p.grad)}


def _of(array: Any) -> dict[str, Any]:
    finite = array_module(array).isfinite(array)
    values = to_numpy(array[finite])
    largest = float(np.abs(values).max()) if values.size else 0.0
    mean = float(values.mean(dtype=np.float64)) if values.size else 0.0
    return {"not_finite": array.size - values.size, "largest": largest, "mean": mean}  # of the finite ones
