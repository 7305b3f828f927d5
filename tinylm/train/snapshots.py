"""All that a run is made of as arrays and a record, and back.

A checkpoint's arrays are model.*, optimizer.*, average.* (with `ema`), state.* (what a recurrent model
carries) and losses.sum; its record has the progress and the state of the random generator.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_device
from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError
from tinylm.optim import Optimizer
from tinylm.train.checkpoints import model_arrays, set_arrays
from tinylm.train.distributed import separate_draws
from tinylm.train.state import Progress, RunState
from tinylm.train.tasks.task import Stored


def arrays_of(state: RunState) -> dict[str, Array]:
    """Returns the arrays of the run as it stands, with what all ranks carry; they are its own, not copied."""
    arrays = {f"model.{name}": a for name, a in model_arrays(state.task.model).items()}
    arrays |= {f"optimizer.{name}": a for name, a in state.task.optimizer.state_dict().items()}
    arrays |= {f"state.{i}": state.ranks.gather(s.data, axis=1) for i, s in enumerate(state.carried or [])}  # (layers, rows, hidden)
    arrays |= {f"average.{name}": a for name, a in state.average.arrays.items()} if state.average else {}
    return arrays | {"losses.sum": state.losses}


def snapshot(state: RunState) -> Stored:
    """Returns (arrays, record) of the run as it stands, in the form that its task stores."""
    record = {"progress": dict(vars(state.progress)), "generator": list(state.generator.state)}
    return state.task.to_stored(arrays_of(state), record)


def restore(state: RunState, path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
    """Puts the run where a snapshot was taken.

    Raises CheckpointError when the names, shapes or dtypes are not the run's own, or the record is unusable;
    nothing is changed then.
    """
    try:
        arrays, record = state.task.from_stored(*as_written_today(arrays, record))
        arrays = optimizer_as_today(state.task.optimizer, arrays)
        progress = Progress.from_record(record.get("progress"))
        generator = generator_state(record.get("generator"))
        own = {name: a for name, a in arrays_of(state).items() if not name.startswith("state.")}
        if progress.step:
            own |= {f"state.{i}": np.empty(shape, dtype) for i, (dtype, shape) in enumerate(state.task.carried_kinds())}
        compare_arrays(own, arrays)
    except ValueError as error:
        raise CheckpointError(f"{path} does not fit the run that config.json describes: {error}") from error
    parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "state": {}, "average": {}, "losses": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = array
    device = state.task.config.device
    set_arrays(state.task.model, parts["model"])
    state.task.optimizer.load_state_dict(parts["optimizer"])
    if state.average:
        state.average.load({name: to_device(a, device) for name, a in parts["average"].items()})
    carried = [np.ascontiguousarray(parts["state"][str(i)][:, state.task.rows]) for i in range(len(parts["state"]))]
    state.carried = [Tensor(to_device(a, device)) for a in carried] or None
    state.losses = to_device(parts["losses"]["sum"], device)
    state.progress = progress
    state.generator.state = generator
    separate_draws(state.ranks, state.generator)


def as_written_today(arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> tuple[Mapping[str, np.ndarray], Mapping[str, Any]]:
    """Returns a snapshot as this version takes it. Up to format 1 a run wrote a record whenever it saved, and had no patience."""
    progress = record.get("progress")
    if not isinstance(progress, dict) or set(vars(Progress())) - set(progress) != {"logged_step", "since_best"}:
        return arrays, record
    added = {"logged_step": progress.get("step"), "since_best": 0}
    return {"losses.sum": np.zeros((), np.float32), **arrays}, {**record, "progress": {**progress, **added}}


def optimizer_as_today(optimizer: Optimizer, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a run with the optimiser's under its parameters' names. Runs up to 0.1.0 have numbers there, and no
    learning rates."""
    own = {name.removeprefix("optimizer."): a for name, a in arrays.items() if name.startswith("optimizer.")}
    others = {name: a for name, a in arrays.items() if not name.startswith("optimizer.")}
    return others | {f"optimizer.{name}": a for name, a in optimizer.as_written_today(own).items()}


def compare_arrays(own: Mapping[str, Array], arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError naming the first few arrays that are missing, too many, or of another shape or dtype than `own`."""
    expected, found = ({name: (a.dtype, a.shape) for name, a in given.items()} for given in (own, arrays))
    problems = [f"missing {name!r}" for name in expected if name not in found]
    problems += [f"unexpected {name!r}" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        if found[name] != expected[name]:
            (dtype, shape), (own_dtype, own_shape) = found[name], expected[name]
            problems.append(f"{name!r} is {dtype} {shape}, expected {own_dtype} {own_shape}")
        elif name.startswith(("optimizer.step.", "optimizer.lr.")) and not arrays[name] >= 0:
            problems.append(f"{name!r} is {arrays[name]}")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError("; ".join(sorted(problems)[:5]) + more)


def generator_state(state: Any) -> tuple[int, int]:
    """Returns the two integers of a random generator. Raises ValueError."""
    if not (isinstance(state, list) and len(state) == 2 and all(type(n) is int and 0 <= n < 2**64 for n in state)):
        raise ValueError(f"its generator is {state!r:.80}, expected a seed and a counter")
    return state[0], state[1]
