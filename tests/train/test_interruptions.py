"""Runs that are stopped or killed, or have no space left on the disk, and what remains of them."""

import dataclasses
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from long_runs import MODELS, TEXT, assert_same_end, records, stop_at, tiny, tiny_run

from tinylm.errors import CheckpointError
from tinylm.train import Run, load_run
from tinylm.train.run_folder import RunLock, saved_checkpoints

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path
from long_runs import TEXT, tiny
from tinylm.errors import CheckpointError
from tinylm.train import Run
folder, steps, save_every = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
config = tiny("lstm", steps=steps, schedule_steps=steps, save_every=save_every)
try:
    Run(config, folder, TEXT, resume=(folder / "config.json").exists()).train(lambda record: print(record["step"], flush=True))
except CheckpointError as error:
    print(error)
    sys.exit(7)
"""


def command(folder: Path, steps: int = 400, save_every: int = 1) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(folder), str(steps), str(save_every)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), "TINYLM_NUM_THREADS": "1"}


@pytest.mark.parametrize("model", MODELS)
def test_interrupted_anywhere_it_is_the_same_run(model: str, tmp_path: Path) -> None:
    """With dropout, during its ramp, within an epoch, within a log period and between validations."""
    tiny_run(model, tmp_path / "whole").train()
    folder = tmp_path / "parts"
    for i, step in enumerate((1, 7, 11, None)):
        run = tiny_run(model, folder, resume=i > 0)
        assert run.progress.step == (0, 1, 7, 11)[i]
        if step is not None:
            stop_at(run, step)
            assert run.train() is None
        else:
            assert run.train() is not None
        del run
    assert_same_end(folder, tmp_path / "whole")


def test_every_part_of_the_state_is_needed_to_resume(tmp_path: Path) -> None:
    """If a part of the state is left out, the resumed run differs."""
    tiny_run("lstm", tmp_path / "whole").train()

    def without_random_state(run: Run) -> None:
        run.state.generator.state = (0, 0)

    def without_average(run: Run) -> None:
        assert run.state.average is not None
        run.state.average.load({name: p.data for name, p in run.state.average.parameters.items()})

    def without_losses(run: Run) -> None:
        run.state.losses = run.state.losses * 0

    def without_state(run: Run) -> None:
        run.state.carried = None

    for forget in (without_random_state, without_average, without_losses, without_state):
        folder = tmp_path / forget.__name__
        stop_at(first := tiny_run("lstm", folder), 7)
        first.train()
        rest = tiny_run("lstm", folder, resume=True)
        forget(rest)
        rest.train()
        with pytest.raises(AssertionError):
            assert_same_end(folder, tmp_path / "whole")


def test_the_last_few_checkpoints_stay(tmp_path: Path) -> None:
    run = tiny_run("gpt", tmp_path, keep=2)
    run.train()
    assert [path.name for path in saved_checkpoints(tmp_path)] == ["step-00000016.safetensors", "step-00000012.safetensors"]
    assert (tmp_path / "checkpoints" / "best.safetensors").exists()


def test_a_checkpoint_by_the_clock_changes_nothing(tmp_path: Path) -> None:
    tiny_run("gru", tmp_path / "steps").train()
    often = tiny_run("gru", tmp_path / "often", save_minutes=1e-9, keep=100)
    often.train()
    assert len(saved_checkpoints(tmp_path / "often")) == 17  # before the first step, and after each
    assert_same_end(tmp_path / "often", tmp_path / "steps")


def test_the_newest_whole_checkpoint_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_run("gpt", tmp_path / "whole").train()
    folder = tmp_path / "run"
    stop_at(run := tiny_run("gpt", folder), 13)
    run.train()
    newest, before, _ = saved_checkpoints(folder)
    assert (newest.stem, before.stem) == ("step-00000013", "step-00000012")
    newest.write_bytes(newest.read_bytes()[:-100])
    load_run(folder)  # which changes nothing in the folder
    assert newest.exists()
    capsys.readouterr()
    del run
    rest = tiny_run("gpt", folder, resume=True)
    assert rest.progress.step == 12
    warning = capsys.readouterr().err
    assert warning.count("\n") == 1
    assert f"warning: {newest} is damaged" in warning
    assert "going on with step-00000012.safetensors" in warning
    assert not newest.exists()
    assert newest.with_name(f"{newest.name}.damaged").exists()
    rest.train()
    assert_same_end(folder, tmp_path / "whole")
    del rest
    for path in saved_checkpoints(folder):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"step-00000016\.safetensors is damaged"):
        tiny_run("gpt", folder, resume=True)


def test_a_folder_serves_one_process_at_a_time(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run = tiny_run("gpt", folder, steps=4)
    with pytest.raises(CheckpointError, match=f"{folder} is in use by process {os.getpid()}"):
        tiny_run("gpt", folder, resume=True)
    run.train()
    rest = tiny_run("gpt", folder, resume=True)  # the lock was released
    done = subprocess.run(command(folder), capture_output=True, text=True, check=False, env=environment())
    assert (done.returncode, done.stdout) == (
        7, f"{folder} is in use by process {os.getpid()}: let it end, or stop it, before going on here\n",
    )  # fmt: skip
    left = folder / "checkpoints" / ".step-00000004.safetensors.abc.partial"
    left.write_bytes(b"half")
    del rest
    with RunLock(folder):
        assert not left.exists()


def interrupted(folder: Path, kills: int, seed: int, steps: int) -> int:
    """Starts the program again and again, kills it at random moments of its training, and returns how many kills hit a
    program that was training; the last one may finish."""
    rng, hits = random.Random(seed), 0
    while hits < kills:
        process = subprocess.Popen(command(folder, steps), stdout=subprocess.PIPE, text=True, env=environment())
        assert process.stdout is not None
        if process.stdout.readline():  # it has started to train
            time.sleep(rng.uniform(0, 0.12))
        finished = process.poll() is not None
        process.kill()
        process.communicate()
        assert not finished, "it should have had more steps to make"
        hits += 1
    return hits


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(kills: int, tmp_path: Path) -> None:
    """The program saves after every step, so that many kills hit a checkpoint that is being written."""
    steps = 100 * kills
    folder = tmp_path / "killed"
    interrupted(folder, kills, seed=kills, steps=steps)
    reached = saved_checkpoints(folder)
    assert reached
    done = subprocess.run(command(folder, steps), capture_output=True, text=True, check=False, env=environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""  # each time the newest checkpoint was complete
    subprocess.run(command(tmp_path / "whole", steps), check=True, env=environment(), stdout=subprocess.DEVNULL)
    assert_same_end(folder, tmp_path / "whole")
    assert not list(folder.rglob("*.partial"))


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    """RLIMIT_FSIZE replaces a full disk: the metrics file or a checkpoint grows beyond it."""
    folder = tmp_path / "run"
    small = subprocess.run(command(folder, 3), capture_output=True, text=True, check=False, env=environment())
    assert small.returncode == 0, small.stderr
    size = saved_checkpoints(folder)[0].stat().st_size
    names = [path.name for path in saved_checkpoints(folder)]
    for limit, message in ((size - 1, "cannot write"), (100, "cannot write")):
        done = subprocess.run(
            command(folder, 400), capture_output=True, text=True, check=False, env=environment(),
            preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )  # fmt: skip
        assert done.returncode == 7, done.stderr
        assert message in done.stdout.splitlines()[-1]
        assert "Traceback" not in done.stderr
        assert [path.name for path in saved_checkpoints(folder)][-len(names) :] == names
        assert not list(folder.rglob("*.partial"))
    rest = Run(tiny("lstm", steps=6, schedule_steps=3, warmup=2), folder, TEXT, resume=True)
    assert rest.progress.step == 3


def test_a_read_only_folder_is_said_to_be_one(tmp_path: Path) -> None:
    """Runs as another user, since root may write anywhere."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become another user")
    folder = tmp_path / "run"
    Run(tiny("lstm", steps=3, schedule_steps=3), folder, TEXT).train()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == 0 and path != Path("/tmp") and Path("/tmp") in path.parents:
            path.chmod(0o755)

    reading, writing = os.pipe()
    if (child := os.fork()) == 0:  # the interpreter itself may be out of another user's reach, so no new one is started
        try:
            os.setgid(65534)
            os.setuid(65534)
            Run(tiny("lstm", steps=6, schedule_steps=3), folder, TEXT, resume=True)
            os.write(writing, b"no error")
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 1000).decode() == f"CheckpointError: cannot write {folder / 'lock'}: Permission denied"
    os.close(reading)
    os.close(writing)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_sigterm_is_a_checkpoint_and_status_130(tmp_path: Path) -> None:
    data, folder = tmp_path / "fox.txt", tmp_path / "run"
    data.write_text(TEXT, encoding="utf-8")
    shape = ["--n-layer", "1", "--n-embd", "16", "--block-size", "16", "--batch-size", "4", "--log-every", "1", "--save-every", "1000000"]
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "train.py"), "--data", str(data), "--out", str(folder), "--steps", "1000000", *shape],
        stdout=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    metrics = folder / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    step = int(saved_checkpoints(folder)[0].stem.removeprefix("step-"))
    assert 0 < step == records(folder)[-1]["step"]
    assert f"stopped at step {step}; continue with: python scripts/train.py --resume {folder}" in output


def test_what_patience_counts(tmp_path: Path) -> None:
    """Validations that are no better, of those at a multiple of eval_every: the one at the end of a run may be another one."""
    settings = {"lr": 0.0, "min_lr": 0.0, "ema": 0.0, "eval_every": 3, "schedule_steps": 50}
    counts = []
    for steps in (2, 3, 5, 6, 7, 9):
        run = tiny_run("gru", tmp_path, resume=bool(counts), steps=steps, **settings)
        run.train()
        counts.append(run.progress.since_best)
    assert counts == [0, 1, 1, 2, 2, 3]  # the first validation, at step 2, is the best
    run.progress.best_val_loss = float("inf")
    run.validate(lambda record: None)
    assert (run.progress.since_best, run.progress.best_step) == (0, 9)


def test_patience(tmp_path: Path) -> None:
    """Patience counts validations every eval_every steps; a resume continues the count, and trains on if it has more patience."""
    settings = {
        "ema": 0.0,
        "lr": 0.0,
        "min_lr": 0.0,
        "eval_every": 3,
        "steps": 50,
        "schedule_steps": 50,
    }  # lr 0: it never improves
    run = tiny_run("gru", tmp_path, patience=2, **settings)
    summary = run.train()
    assert summary is not None
    assert (summary["steps"], summary["stopped_early"], summary["best_step"]) == (9, True, 3)
    assert saved_checkpoints(tmp_path)[0].stem == "step-00000009"
    again = tiny_run("gru", tmp_path, resume=True, patience=2, **settings)
    again_summary = again.train()
    assert again_summary is not None
    assert again_summary["steps"] == 9
    more = tiny_run("gru", tmp_path, resume=True, patience=4, **settings).train()
    assert more is not None
    assert more["steps"] == 15
    whole = dataclasses.replace(tiny("gru", **settings), steps=6)
    finished = Run(whole, tmp_path / "whole", TEXT).train()
    assert finished is not None
    assert not finished["stopped_early"]
