"""Runs made before the modules moved: they resume bit for bit, and give the same texts and scores.

tests/old_runs/make.py made them; expected.json has the results of the code of that time.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from old_runs.measure import RUNS, arrays_of, losses_of, machine, newest, scores_of, summary_of
from script_helpers import ends_well, script_here

from tinylm.train import load_run
from tinylm.train.tasks.classification import load_classifier
from tinylm.train.tasks.translation import load_translator

EXPECTED = json.loads((RUNS / "expected.json").read_text(encoding="utf-8"))
FORMAT_1 = json.loads((RUNS / "format_1" / "expected.json").read_text(encoding="utf-8"))
RESUMED = [name for name, run in EXPECTED["runs"].items() if run.get("resume")]
SAME_MACHINE = EXPECTED["machine"] == machine()
# Another processor or NumPy adds float32 numbers in another order. After a few steps that matters little, but Adam divides a
# gradient by its own size, so that rounding shows where a gradient is nearly zero: arrays are compared by the norm of
# their part (all weights, all averages, ...), never number by number, and without the biases of keys. The gradient of
# these is zero but for rounding, since adding a number to all scores of a row does not change its softmax.
TOLERANCE = 1e-5
KEY_BIASES = ("c_attn.bias", "in_proj_bias")
# Since these runs were made, the dot products of few rows add up in another order. Texts are scored with few rows, and the validation
# losses contain batches of few rows: these are compared within the tolerance on any machine, and so are the runs below. Weights,
# optimisers and training losses of the others are not.
SINCE = (
    "lstm-classifier",  # trains on two texts at a time
    "translator", "lstm-translator",  # made when NumPy computed Muon's products: its kernel rounds differently
)  # fmt: skip
NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[+-]\d+)?")


def exactly(name: str) -> bool:
    """Whether a run is what it was then to the last bit."""
    return SAME_MACHINE and name not in SINCE


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Copies all old runs to a folder of the name given, and goes there: their configs name texts and runs by relative paths."""

    def copy(name: str) -> Path:
        folder = tmp_path / name
        shutil.copytree(RUNS, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
        monkeypatch.chdir(folder)
        return folder

    return copy


def run(command: list[Any]) -> str:
    return ends_well(script_here(*command))


def same_numbers(found: Any, expected: Any, exact: bool = SAME_MACHINE) -> None:
    """Asserts that records of numbers, lists of them, or numbers are equal, or within the tolerance."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            same_numbers(found[name], value, exact and "val_" not in name)
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same_numbers(one, other, exact)
    else:
        assert found == expected if exact else found == pytest.approx(expected, rel=TOLERANCE)


def same_arrays(found: dict[str, str], expected: dict[str, str], exact: bool = SAME_MACHINE) -> None:
    """Asserts that arrays as `arrays_of` measures them are equal, or each within the tolerance of its part's norm."""
    assert found.keys() == expected.keys()
    if exact:
        assert found == expected
        return
    differences: dict[str, list[np.ndarray]] = {}
    norms: dict[str, float] = {}
    for name, measured in expected.items():
        (digest, *numbers), (its_digest, *its_numbers) = measured.split(), found[name].split()
        if digest == its_digest or name.endswith(KEY_BIASES):
            continue
        part = name.split(".")[0]
        values, its_values = np.array(numbers, float), np.array(its_numbers, float)
        differences.setdefault(part, []).append(its_values - values)
        norms[part] = float(np.hypot(norms.get(part, 0.0), values[0]))
    for part, of_arrays in differences.items():
        assert np.abs(of_arrays).max() <= TOLERANCE * norms[part], part


def same_output(command: list[Any], found: str, expected: str, exact: bool = SAME_MACHINE) -> None:
    """Compares what a command prints: texts and numbers separately, since the words around numbers may change.

    On another machine the last printed digit may differ, and with it the token that is drawn or the hypothesis that wins:
    texts are compared only if they are greedy, where the most likely token is well ahead.
    """
    numbers, its_numbers = (list(map(float, NUMBER.findall(out))) for out in (expected, found))
    assert its_numbers == numbers if exact else its_numbers == pytest.approx(numbers, rel=1e-3, abs=2e-4)
    if command[0] == "replay.py":
        assert all(word in found for word in ("step 2", "nan", "layer_norm"))
    elif command[0] != "score.py" and (exact or not {"--seed", "run"} & set(command) or "--beams" in command):
        assert NUMBER.sub("", found) == NUMBER.sub("", expected)


def gives_the_same(expected: dict[str, Any], part: str, folder: Path, exact: bool = SAME_MACHINE) -> None:
    """Compares what the scripts print about a run, and the scores of texts, of which scripts print only some digits."""
    for asked in expected[part]:
        same_output(asked["command"], run(asked["command"]), asked["out"], exact)
    if f"{part}_scores" in expected:
        same_numbers(scores_of(folder, expected["texts"]), expected[f"{part}_scores"], exact=False)


def with_numbers(arrays: dict[str, str], folder: Path) -> dict[str, str]:
    """Returns the arrays of a checkpoint with the optimiser's also under numbers, as they were stored until parameters had names there:
    in the order of the groups, matrices and then vectors, with Muon's matrices last."""
    task = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("task")
    if task == "classification":
        model = next(iter(load_classifier(folder)[0].members))
    else:
        model = load_translator(folder).model if task == "translation" else load_run(folder)[0]
    known = {name.removeprefix("optimizer.step.") for name in arrays if name.startswith("optimizer.step.")}
    with_squares = {name for name in known if f"optimizer.exp_avg_sq.{name}" in arrays}
    order = {name: (name not in with_squares, p.ndim < 2, i) for i, (name, p) in enumerate(model.named_parameters())}
    for number, name in enumerate(sorted(known, key=order.__getitem__)):
        for kind in ("step", "exp_avg", *(["exp_avg_sq"] if name in with_squares else [])):
            arrays[f"optimizer.{kind}.{number}"] = arrays[f"optimizer.{kind}.{name}"]
    return arrays


def resumes_the_same(expected: dict[str, Any], folder: Path, exact: bool = SAME_MACHINE) -> None:
    """Compares arrays, losses and summary after some more steps; what newer code stores in addition does not matter."""
    for command in expected["resume"]:
        run(command)
    arrays, summary = with_numbers(arrays_of(newest(folder)), folder), summary_of(folder)
    same_arrays({name: arrays[name] for name in expected["arrays"]}, expected["arrays"], exact)
    same_numbers(losses_of(folder), expected["losses"], exact)
    same_numbers({name: summary[name] for name in expected["summary"]}, expected["summary"], exact)


@pytest.mark.parametrize("name", [name for name, run in EXPECTED["runs"].items() if run["before"]])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")  # of the run that failed
def test_as_stored_it_gives_the_same(name: str, copy: Callable[[str], Path]) -> None:
    gives_the_same(EXPECTED["runs"][name], "before", copy("copy") / name)


@pytest.mark.parametrize("name", RESUMED)
def test_it_resumes(name: str, copy: Callable[[str], Path]) -> None:
    """It resumes with its weights, its optimiser and its losses; a second resume is exactly equal on any machine."""
    expected, folders = EXPECTED["runs"][name], []
    for number in ("first", "second"):
        folders.append(copy(number) / name)
        resumes_the_same(expected, folders[-1], exactly(name))
    gives_the_same(expected, "after", folders[-1])
    same_arrays(*(arrays_of(newest(folder)) for folder in folders), exact=True)
    same_numbers(*(losses_of(folder) for folder in folders), exact=True)


# ---------------------------------------------------------------- older still


def change_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")


# The settings that came with each commit, the newest first. Runs made before it, since 0.1.0 too, do not have them.
LATER = {
    "3d06fa1": ("init", "lora_rank", "lora_alpha"),
    "b9dfdf1": ("n_kv_head", "rope_theta"),
    "03c936e": ("accumulate", "checkpoint_activations", "save_minutes", "keep", "ema", "patience"),
    "c58f770": ("encoding",),
    "f479da2": ("members",),
    "3f93dd0": ("dropout_ramp",),
    "70f0912": ("input_dropout",),
    "5163e3e": ("min_count", "bpe_size", "n_hidden", "nonlinearity", "order"),
}


@pytest.mark.parametrize("commit", list(LATER))
def test_a_missing_setting_takes_its_old_value(commit: str, copy: Callable[[str], Path]) -> None:
    """A config as it was before a commit. Values other than today's defaults occur in the runs of format 1."""
    folder = copy("copy") / "gpt"
    commits = list(LATER)
    missing = [name for later in commits[: commits.index(commit) + 1] for name in LATER[later]]
    change_config(folder, lambda config: [config["train"].pop(name) for name in missing] and None)
    gives_the_same(EXPECTED["runs"]["gpt"], "before", folder)
    resumes_the_same(EXPECTED["runs"]["gpt"], folder)


def test_a_translators_missing_setting_takes_its_old_value(copy: Callable[[str], Path]) -> None:
    folder = copy("copy") / "translator"
    change_config(folder, lambda config: [config["train"].pop(name) for name in ("save_minutes", "keep", "ema", "patience")] and None)
    resumes_the_same(EXPECTED["runs"]["translator"], folder, exactly("translator"))


def test_whole_weights_without_the_context_of_their_model(copy: Callable[[str], Path]) -> None:
    """As 3d06fa1 wrote them until 1a454e6: tokenizer and context are those of the model that it started from."""
    folder = copy("copy") / "init"
    change_config(folder, lambda config: config.update(tokenizer=None) or config.pop("context"))
    gives_the_same(EXPECTED["runs"]["init"], "before", folder)
    resumes_the_same(EXPECTED["runs"]["init"], folder)


def test_adapters_without_the_digest_of_their_model(copy: Callable[[str], Path]) -> None:
    """Until 1a454e6 it was not stored, so that there is nothing to compare."""
    folder = copy("copy") / "lora"
    change_config(folder, lambda config: config.pop("base"))
    gives_the_same(EXPECTED["runs"]["lora"], "before", folder)
    resumes_the_same(EXPECTED["runs"]["lora"], folder)


@pytest.mark.parametrize("name", list(FORMAT_1["runs"]))
def test_format_1(name: str, copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs until 17bccbe, made by the code of their time (make_format_1.py): bit for bit, except for early ones and Muon's, since
    newer kernels round differently."""
    folder = copy("copy") / "format_1" / name
    monkeypatch.chdir(folder.parent)
    for data in RUNS.glob("*.txt"):
        shutil.copy(data, folder.parent)
    expected, exact = FORMAT_1["runs"][name], FORMAT_1["machine"] == machine() and not name.startswith("early")
    gives_the_same(expected, "before", folder, exact)
    if expected.get("resume"):
        resumes_the_same(expected, folder, exact and name not in SINCE)
        gives_the_same(expected, "after", folder, exact and name not in SINCE)
