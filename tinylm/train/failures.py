"""A loss or gradient that is not finite: which step, which parameter, which op, and all that repeating it needs.

RUN/failure/ then holds report.json and state.safetensors: the run before the step as a checkpoint has it, and
the batch as batch.*. `tinylm.train.replay` repeats the step from these two and config.json alone.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from tinylm.engine.anomalies import detect_anomaly
from tinylm.engine.arrays import array_module
from tinylm.engine.devices import to_numpy
from tinylm.engine.random_keys import default_generator
from tinylm.errors import AnomalyError, CheckpointError
from tinylm.files.json_files import write_json
from tinylm.train.checkpoints import save_arrays
from tinylm.train.run_folder import newest_whole
from tinylm.train.snapshots import restore, snapshot

if TYPE_CHECKING:
    from tinylm.train.loop import Run


def describe_failure(run: "Run", k: int, loss: Any, error: AnomalyError) -> AnomalyError:
    """The error to stop with when step k, with the run as it was before it, met a value that is not finite;
    writes the folder failure/."""
    report = examine(run, k)
    report = run.ranks.broadcast(report, root=_first_met(run, report))
    folder = run.folder / "failure"
    arrays, record = snapshot(run)
    record["progress"]["step"] = k
    arrays |= {f"batch.{name}": a for name, a in run.batch_arrays(k).items()}
    if run.ranks.rank:
        return AnomalyError(explained(report))
    fresh = bool(getattr(run.batches, "starts_afresh", lambda k: True)(k))
    try:
        save_arrays(folder / "state.safetensors", arrays, {**record, "starts_afresh": fresh})
        write_json(folder / "report.json", report)
        kept = f"the batch, the weights before and the random state are in {folder}: python scripts/replay.py {run.folder} repeats it"
    except CheckpointError as problem:
        kept = f"what repeats it could not be kept: {problem}"
    return AnomalyError(f"{explained(report)}; nothing was updated; {kept}")


def _first_met(run: "Run", report: dict[str, Any]) -> int:
    """The first rank whose own loss or gradient is not finite; 0 when that is none's."""
    met = any(isinstance(report[name], str) for name in ("loss", "gradient_norm"))
    return int(np.argmax(run.ranks.gather(np.array([[met]]), axis=1)))


def require_finite(run: "Run", loss: float, norm: float) -> None:
    """AnomalyError when one of them is not, which is found late on a GPU, where not every step is looked at."""
    if not (np.isfinite(loss) and np.isfinite(norm)):
        raise find_failure(run, loss, norm)


def find_failure(run: "Run", loss: float, norm: float) -> AnomalyError:
    """The error for values that were seen not to be finite some steps after they arose.

    A run repeats itself bit for bit, so it goes back to its newest checkpoint and comes again, looking at
    every step; what it meets there is described as `describe_failure` does.
    """
    first, last = run.progress.logged_step + 1, run.progress.step
    seen = f"the training loss is {loss} and the gradient norm {norm} between steps {first} and {last}"
    try:
        newest_whole(run.folder, lambda path, arrays, record: restore(run, path, arrays, record))
    except CheckpointError as error:
        return AnomalyError(f"{seen}: try a lower learning rate (which step it was is not known: {error})")
    begin, run.searching = run.progress.step, True
    try:
        for k in range(begin, last):
            run._step(k)
    except AnomalyError as error:
        return error
    finally:
        run.searching = False
    return AnomalyError(f"{seen}, but not when the steps from {begin + 1} on were repeated: the device computes wrongly now and then")


def examine(run: "Run", k: int) -> dict[str, Any]:
    """Step k's loss, gradients and first op that is not finite, from two passes, the second one under
    `detect_anomaly`. Weights, optimiser, random numbers and carried state stay as they are."""
    before = default_generator.state, run.state
    op = None
    try:
        with np.errstate(all="ignore"):
            loss = float(to_numpy(run._gradients(k)))
            norm = float(to_numpy(run.optimizer.grad_norm()))
            parameters = {name: _statistics(p) for name, p in run.model.named_parameters()}
            default_generator.state, run.state = before
            with detect_anomaly():
                run._gradients(k)
    except AnomalyError as error:
        op = str(error)
    finally:
        default_generator.state, run.state = before
        run.optimizer.zero_grad()
    return {"step": k + 1, "loss": _number(loss), "gradient_norm": _number(norm), "op": op, "parameters": parameters}


def explained(report: dict[str, Any]) -> str:
    """A report in one line."""
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


def _number(value: float) -> float | str:
    return value if np.isfinite(value) else str(value)  # JSON has no word for NaN
