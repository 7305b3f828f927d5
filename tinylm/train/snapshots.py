"""All that a run is made of, as arrays and a record, and the way back.

A checkpoint's arrays are model.*, optimizer.*, average.* (with `ema`), state.* (what a recurrent model
carries) and losses.sum; its record has the progress and the state of the random generator.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinylm.engine.arrays import Array
from tinylm.engine.devices import to_device
from tinylm.engine.random_keys import default_generator
from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError
from tinylm.train.checkpoints import model_arrays, set_arrays
from tinylm.train.distributed import separate_draws
from tinylm.train.progress import Progress

if TYPE_CHECKING:
    from tinylm.train.loop import Run


def snapshot(run: "Run") -> tuple[dict[str, Array], dict[str, Any]]:
    """(arrays, record) of the run as it stands, with what all ranks carry; the arrays are its own, not copied."""
    arrays = {f"model.{name}": a for name, a in model_arrays(run.model).items()}
    arrays |= {f"optimizer.{name}": a for name, a in run.optimizer.state_dict().items()}
    arrays |= {f"state.{i}": run.ranks.gather(s.data, axis=1) for i, s in enumerate(run.state or [])}  # (layers, rows, hidden)
    arrays |= {f"average.{name}": a for name, a in run.average.arrays.items()} if run.average else {}
    arrays["losses.sum"] = run.losses
    return arrays, {"progress": dict(vars(run.progress)), "generator": list(default_generator.state)}


def restore(run: "Run", path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
    """Puts the run where a snapshot was taken.

    Errors: CheckpointError when the names, shapes or dtypes are not the run's own, or the record is unusable;
    nothing is changed then.
    """
    try:
        progress = Progress.from_record(record.get("progress"))
        generator = generator_state(record.get("generator"))
        own = {name: a for name, a in snapshot(run)[0].items() if not name.startswith("state.")}
        if progress.step:
            own |= {f"state.{i}": np.empty(shape, dtype) for i, (dtype, shape) in enumerate(run.carried_kinds())}
        compare_arrays(own, arrays)
    except ValueError as error:
        raise CheckpointError(f"{path} does not fit the run that config.json describes: {error}") from error
    parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "state": {}, "average": {}, "losses": {}}
    for name, array in arrays.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = array
    device = run.config.device
    set_arrays(run.model, parts["model"])
    run.optimizer.load_state_dict(parts["optimizer"])
    if run.average:
        run.average.load({name: to_device(a, device) for name, a in parts["average"].items()})
    carried = [np.ascontiguousarray(parts["state"][str(i)][:, run.rows]) for i in range(len(parts["state"]))]
    run.state = [Tensor(to_device(a, device)) for a in carried] or None
    run.losses = to_device(parts["losses"]["sum"], device)
    run.progress = progress
    default_generator.state = generator
    separate_draws(run.ranks, default_generator)


def compare_arrays(own: Mapping[str, Array], arrays: Mapping[str, np.ndarray]) -> None:
    """ValueError naming the first few arrays that are missing, too many, or of another shape or dtype than one's own."""
    expected, found = ({name: (a.dtype, a.shape) for name, a in given.items()} for given in (own, arrays))
    problems = [f"missing {name!r}" for name in expected if name not in found]
    problems += [f"unexpected {name!r}" for name in found if name not in expected]
    for name in expected.keys() & found.keys():
        if found[name] != expected[name]:
            (dtype, shape), (own_dtype, own_shape) = found[name], expected[name]
            problems.append(f"{name!r} is {dtype} {shape}, expected {own_dtype} {own_shape}")
        elif name.startswith("optimizer.step.") and arrays[name] < 0:
            problems.append(f"{name!r} is {arrays[name]}")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise ValueError("; ".join(sorted(problems)[:5]) + more)


def generator_state(state: Any) -> tuple[int, int]:
    """The two integers of a random generator. Errors: ValueError."""
    if not (isinstance(state, list) and len(state) == 2 and all(type(n) is int and 0 <= n < 2**64 for n in state)):
        raise ValueError(f"its generator is {state!r:.80}, expected a seed and a counter")
    return state[0], state[1]
