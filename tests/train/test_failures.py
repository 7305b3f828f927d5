"""Losses and gradients that are not finite: found, named, kept and repeated."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import MODELS, stop_at, tiny_run
from script_helpers import fails_with_one_line, script_here

from tinylm import ops
from tinylm.engine.op import op
from tinylm.errors import AnomalyError, CheckpointError
from tinylm.files.signed_arrays import read_arrays
from tinylm.train import Run
from tinylm.train.replay import failed_run, replay
from tinylm.train.run_folder import saved_checkpoints

pytestmark = pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value", "ignore:divide by zero")
HUGE = 3e38


def poison(run: Run, k: int) -> None:
    """Makes the weights too large before step k, so that the step overflows."""
    gradients = run.gradients

    def poisoned(at: int) -> Any:
        if at == k:
            for p in run.model.parameters():
                p.data[...] = HUGE
                p.bump_version()
        return gradients(at)

    run.gradients = poisoned  # type: ignore[method-assign]


@pytest.mark.parametrize("model", MODELS)
def test_a_failed_step_is_kept_and_repeated(model: str, tmp_path: Path) -> None:
    """The step is repeated without the data: from config.json and failure/ alone, including carried state and random numbers."""
    run = tiny_run(model, tmp_path)
    poison(run, 6)
    with pytest.raises(AnomalyError) as caught:
        run.train()
    message = str(caught.value)
    assert message.startswith("step 7: the loss is ")
    assert f"python -m tinylm replay {tmp_path}" in message
    assert "nothing was updated" in message
    report = json.loads((tmp_path / "failure" / "report.json").read_text(encoding="utf-8"))
    assert report["step"] == 7
    assert report["parameters"].keys() == {name for name, _ in run.model.named_parameters()}
    again = json.loads(json.dumps(replay(tmp_path)))
    for record in (report, again):
        record["op"] = re.sub(r" \(.*test_failures.py:\d+", "", record["op"])  # this test's own lines: train above, replay here
    assert again == report
    kept = failed_run(tmp_path)
    for (name, p), q in zip(run.model.named_parameters(), kept.model.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data, err_msg=name)  # the weights before: nothing was updated
    for a, b in zip(run.task.batch_arrays(6).values(), kept.task.batch_arrays(6).values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert [path.stem for path in saved_checkpoints(tmp_path)] == ["step-00000004", "step-00000000"]


def test_the_op_and_the_line_are_named(tmp_path: Path) -> None:
    run = tiny_run("gpt", tmp_path)
    loss = run.model.loss

    def with_log(*args: Any) -> Any:
        value, state = loss(*args)
        return (value + ops.log(value * 0) * (run.progress.step == 2), state)  # log 0

    run.model.loss = with_log  # type: ignore[method-assign]
    with pytest.raises(AnomalyError, match=r"step 1: the loss is .*; first log \(.*test_failures\.py:\d+\) produced an infinity"):
        run.train()
    result = script_here("replay.py", tmp_path)  # the weights were fine: repeated without that line, the step is finite
    assert result.returncode == 1
    assert "every weight and gradient is finite" in result.stdout


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_the_parameter_is_named(what: str, tmp_path: Path) -> None:
    @op
    def spoiled(x, /):
        """x with a gradient of infinities."""
        return x * 1, lambda dy: (dy * np.inf,)

    run = tiny_run("lstm", tmp_path)
    loss = run.model.loss
    decoder = run.model.decoder  # type: ignore[attr-defined]
    if what == "gradient":
        forward = decoder.forward
        decoder.forward = lambda x: forward(spoiled(x))
    else:
        run.model.loss = lambda *args: (loss(*args)[0] + np.inf, loss(*args)[1])  # type: ignore[method-assign]
    with pytest.raises(AnomalyError) as caught:
        run.train()
    if what == "gradient":
        assert "first spoiled (" in str(caught.value)
        assert "gradient of 'encoder.weight' are not finite" in str(caught.value)
        report = json.loads((tmp_path / "failure" / "report.json").read_text(encoding="utf-8"))
        assert report["parameters"]["decoder.weight"]["gradient"]["not_finite"] == 0
        assert report["loss"] > 0
    else:
        assert "step 1: the loss is inf" in str(caught.value)  # though every gradient is finite
        assert run.task.optimizer.state_dict()["step.encoder.weight"] == 0


def test_replay_as_a_person_does_it(tmp_path: Path) -> None:
    run = tiny_run("gru", tmp_path)
    fails_with_one_line(script_here("replay.py", tmp_path), "holds no failed step")
    poison(run, 3)
    with pytest.raises(AnomalyError):
        run.train()
    result = script_here("replay.py", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "step 4: the loss is" in result.stdout
    assert "3e+38" in result.stdout
    path = tmp_path / "failure" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    fails_with_one_line(script_here("replay.py", tmp_path), "is damaged")


def test_a_run_goes_on_after_a_failure(tmp_path: Path) -> None:
    """The run continues from the checkpoint before the failure, which remains."""
    run = tiny_run("gru", tmp_path)
    poison(run, 6)
    with pytest.raises(AnomalyError):
        run.train()
    del run
    assert tiny_run("gru", tmp_path, resume=True).train() is not None


@pytest.mark.parametrize("model", ["gpt", "lstm"])
@pytest.mark.parametrize("bad", [5, 9])
def test_found_late_on_a_gpu_the_step_is_named_all_the_same(cuda: Any, model: str, bad: int, tmp_path: Path) -> None:
    """The update was already made, and more after it; the run returns to its checkpoint and reaches the step again."""
    run = tiny_run(model, tmp_path, device="cuda", log_every=4, eval_every=16, steps=16)
    batches, kind = run.task.batches, type(run.task.batches)
    gradients = run.gradients

    def spoiled(k: int) -> Any:
        loss = gradients(k)
        if k == bad:  # as if this batch had caused it
            p = next(iter(run.model.parameters()))
            assert p.grad is not None
            p.grad[...] = np.inf
        return loss

    run.gradients = spoiled  # type: ignore[method-assign]
    assert isinstance(batches, kind)
    with pytest.raises(AnomalyError, match=rf"step {bad + 1}: the loss is [\d.]+, the gradient norm (inf|nan)"):
        run.train()
    arrays, record = read_arrays(tmp_path / "failure" / "state.safetensors")
    assert record["progress"]["step"] == bad
    whole = tiny_run(model, tmp_path / "whole", device="cuda", log_every=4, eval_every=16, steps=16, save_every=1, keep=20)
    stop_at(whole, bad)
    whole.train()
    expected, _ = read_arrays(saved_checkpoints(tmp_path / "whole")[0])
    for name in expected:
        if name != "losses.sum" and not name.startswith("optimizer.lr."):  # the learning rate is that of the step that failed
            np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name)


def test_found_late_without_a_checkpoint(tmp_path: Path) -> None:
    run = tiny_run("gpt", tmp_path)
    run.state.losses = run.state.losses * np.float32(np.nan)
    run.train_step(0)
    run.progress.step, run.state.norm = 1, np.float32(1)
    with pytest.raises(AnomalyError, match=r"the training loss is nan and the gradient norm 1.0 .*which step it was is not known"):
        run.log(lambda record: None)
    with pytest.raises(CheckpointError):
        failed_run(tmp_path)


def test_what_does_not_happen_again(tmp_path: Path) -> None:
    run = tiny_run("gpt", tmp_path)
    gradients, once = run.gradients, [True]

    def flaky(k: int) -> Any:
        loss = gradients(k)
        if k == 2 and once:
            once.clear()
            run.state.losses = run.state.losses * np.float32(np.nan)
        return loss

    run.gradients = flaky  # type: ignore[method-assign]
    with pytest.raises(AnomalyError, match="but not when the steps from 1 on were repeated: the device computes wrongly now and then"):
        run.train()
