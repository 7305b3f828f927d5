"""Each run draws from a random stream of its own: several in one process do not change each other's numbers, nor the user's."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import TEXT, tiny, tiny_classifier, tiny_run

import tinylm
from tinylm import Tensor, ops
from tinylm.engine.random_keys import Generator, current, default_generator, drawing_from
from tinylm.files.signed_arrays import read_arrays
from tinylm.train import Run
from tinylm.train.loop import Training
from tinylm.train.run_folder import saved_checkpoints

Maker = Callable[[Path, int], Training]  # a folder and a seed -> a run with dropout


def language_model(folder: Path, seed: int) -> Training:
    return tiny_run("gpt", folder, seed=seed)


def recomputed(folder: Path, seed: int) -> Training:
    """It draws the masks of its blocks again in the backward pass."""
    return tiny_run("gpt", folder, seed=seed, checkpoint_activations=True)


def ensemble(folder: Path, seed: int) -> Training:
    return tiny_run("ensemble", folder, seed=seed)


def translator(folder: Path, seed: int) -> Training:
    return tiny_run("translator", folder, seed=seed)


def classifier(folder: Path, seed: int) -> Training:
    """With two members, whose texts are shuffled anew for each epoch."""
    return tiny_classifier(folder, seed=seed)


MAKERS = [language_model, recomputed, ensemble, translator, classifier]


def result(run: Training) -> dict[str, bytes]:
    """Returns the weights, the optimiser and the state of the generator that a run has reached."""
    arrays, record = read_arrays(saved_checkpoints(run.folder)[0])
    return {name: np.ascontiguousarray(a).tobytes() for name, a in arrays.items()} | {"generator": repr(record["generator"]).encode()}


def draw(record: dict[str, Any] | None = None) -> None:
    """Draws a dropout mask, as a user's own code may do between the steps and when a record is reported."""
    ops.dropout(Tensor(np.ones(5, np.float32)), p=0.5)


def alone(make: Maker, folder: Path, seed: int) -> dict[str, bytes]:
    run = make(folder / f"alone-{seed}", seed)
    run.train()
    return result(run)


@pytest.mark.parametrize("make", MAKERS)
def test_two_runs_in_turn_are_what_each_is_alone(make: Maker, tmp_path: Path) -> None:
    """They are made together and step by step take turns; between the steps the user seeds and draws, too."""
    expected = [alone(make, tmp_path, seed) for seed in (0, 1)]
    assert expected[0] != expected[1]
    runs = [make(tmp_path / f"turn-{seed}", seed) for seed in (0, 1)]
    while runs[0].progress.step < runs[0].config.steps:
        for run in runs:
            tinylm.manual_seed(run.progress.step)
            draw()
            run.model.train()
            run.advance(draw)
    assert [result(run) for run in runs] == expected


@pytest.mark.parametrize("make", MAKERS)
def test_runs_in_threads_are_what_each_is_alone(make: Maker, tmp_path: Path) -> None:
    expected = [alone(make, tmp_path, seed) for seed in (0, 1)]
    found: dict[int, dict[str, bytes]] = {}

    def work(seed: int) -> None:
        run = make(tmp_path / f"thread-{seed}", seed)
        run.train()
        found[seed] = result(run)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        draw()
    for thread in threads:
        thread.join()
    assert [found[0], found[1]] == expected


@pytest.mark.parametrize("make", MAKERS)
def test_a_run_leaves_the_users_generator_as_it_was(make: Maker, tmp_path: Path) -> None:
    default_generator.seed(5)
    make(tmp_path / "run", 0).train()
    assert default_generator.state == (5, 0)
    assert current.generator is default_generator


def test_a_stopped_step_leaves_the_users_generator(tmp_path: Path) -> None:
    """An error within a step does not leave the run's generator behind."""
    run = Run(tiny("gpt"), tmp_path, TEXT)

    def failing(*_: Any) -> Any:
        raise KeyboardInterrupt

    run.model.loss = failing  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert current.generator is default_generator


def test_a_thread_begins_with_the_default_generator() -> None:
    seen = []
    with drawing_from(Generator(3)):
        thread = threading.Thread(target=lambda: seen.append(current.generator))
        thread.start()
        thread.join()
        assert current.generator.state == (3, 0)
    assert seen == [default_generator]
