"""Two processes train as one does; what happens to one of them happens to the run."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

import distributed_program
import numpy as np
import pytest
from script_helpers import SCRIPTS

from tinylm.errors import ConfigError
from tinylm.files.signed_arrays import read_arrays
from tinylm.train import TrainConfig, distributed
from tinylm.train.distributed import MPIRanks, NcclMeans, Ranks, own_rows, refuse_lone_ranks
from tinylm.train.processes.heartbeats import longest_silence

LAUNCHER = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

needs_mpi = pytest.mark.skipif(
    LAUNCHER is None or importlib.util.find_spec("mpi4py") is None, reason="needs mpi4py, and mpiexec in Python's folder or on the path"
)

LAST = "step-00000050.safetensors"
Result = subprocess.CompletedProcess[str]


def on_ranks(size: int, *command: object, **environment: str) -> Result:
    """Runs a Python command on that number of ranks, each with one thread. Open MPI refuses root without the two variables.

    The time limit is for a busy machine, on which waiting ranks take the cores from working ones.
    """
    env = {
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error", "TINYLM_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        **environment,
    }  # fmt: skip
    words = [LAUNCHER, "-n", str(size), sys.executable, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, encoding="utf-8", check=False, env=env, timeout=240)


def case(name: str, folder: Path, size: int = 2) -> Result:
    return on_ranks(size, distributed_program.__file__, name, folder)


@needs_mpi
def test_the_collectives_on_three_ranks(tmp_path: Path) -> None:
    result = case("collectives", tmp_path, size=3)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("fine") == 3


@needs_mpi
def test_two_ranks_train_as_one(tmp_path: Path) -> None:
    """float64, 50 steps of three models: every loss, norm and weight to 1e-10."""
    for size in (1, 2):
        result = case("trains", tmp_path / str(size), size)
        assert result.returncode == 0, result.stderr
    for model in ("gpt", "lstm", "gru"):
        folders = [tmp_path / str(size) / model for size in (1, 2)]
        one, two = ([json.loads(line) for line in (f / "metrics.jsonl").read_text(encoding="utf-8").splitlines()] for f in folders)
        assert len(one) == len(two) == 52  # with two validations
        for a, b in zip(one, two, strict=True):
            for name in ("loss", "val_loss", "grad_norm"):
                assert a.get(name) == (None if name not in a else pytest.approx(b[name], rel=1e-10)), (model, a["step"], name)
        ours, theirs = (read_arrays(f / "checkpoints" / LAST)[0] for f in folders)
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            np.testing.assert_allclose(theirs[name], array, rtol=1e-8, atol=1e-10, err_msg=f"{model} {name}")


@needs_mpi
def test_two_ranks_resume_bit_for_bit(tmp_path: Path) -> None:
    result = case("resumes", tmp_path)
    assert result.returncode == 0, result.stderr
    (parts, record), (whole, other) = (read_arrays(tmp_path / name / "checkpoints" / LAST) for name in ("parts", "whole"))
    assert parts.keys() == whole.keys()
    assert parts["state.0"].shape == (1, 4, 16)  # that of all rows
    for name, array in whole.items():
        np.testing.assert_array_equal(parts[name], array, err_msg=name)
    assert record["generator"] == other["generator"]


@needs_mpi
def test_ranks_draw_different_masks_and_stop_together(tmp_path: Path) -> None:
    drawn = case("masks", tmp_path / "masks")
    assert drawn.returncode == 0, drawn.stderr
    (seed, first), (other_seed, second) = json.loads(drawn.stdout)
    assert seed == other_seed
    assert second // 2**48 == 1
    assert first < second % 2**48 + 1 < 1000  # rank 0 also validates, and then restores its random state
    stopped = case("stops", tmp_path / "stops")
    assert stopped.returncode == 0, stopped.stderr
    assert json.loads(stopped.stdout) == [7, 7]


@needs_mpi
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("fails", "a disk has gone"),
        ("killed", ""),
        ("differs", "weights of the ranks are not the same"),
        ("diverges", "step 31: the loss is"),
    ],
)
def test_what_ends_one_rank_ends_all(name: str, told: str, tmp_path: Path) -> None:
    """All end within the time limit, with a message and a status, and the last checkpoint remains."""
    result = case(name, tmp_path)
    assert result.returncode not in (0, None)
    assert told in result.stderr
    assert (result.stdout + result.stderr).strip()
    if name == "diverges":
        assert (tmp_path / "run" / "failure" / "report.json").exists()
        assert result.stderr.count("step 31") == 1
        assert "the gradient norm nan" in result.stderr  # with the state of the rank on which it occurred
    if name != "differs":
        assert read_arrays(tmp_path / "run" / "checkpoints" / "step-00000020.safetensors")[1]["progress"]["step"] == 20


@needs_mpi
@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("stopped", 1, "rank 1 has been silent for 4 seconds"),
        pytest.param("rank_0_stopped", 1, "rank 0 has been silent for 4 seconds", marks=pytest.mark.slow),
        ("leaves", 1, "rank 1 has left by sys.exit"),
        pytest.param("rank_0_leaves", 1, "rank 0 has left by sys.exit", marks=pytest.mark.slow),
        ("vanishes", 5, ""),  # "rank 1 has ended without a word", unless mpiexec notices it first
        ("other_settings", 2, "dropout is 0.1 on rank 1 and 0.0 on rank 0: all ranks need the same"),
        ("other_data", 2, "the SHA-256 of the training part is"),
        ("all_leave", 4, ""),
        pytest.param("works_long", 0, "", marks=pytest.mark.slow),
    ],
)
def test_a_rank_that_stops_leaves_or_differs(name: str, status: int, told: str, tmp_path: Path) -> None:
    """All end within the time limit, with the number of the rank; long work and leaving together are no faults.

    Who is silent when, and when it is told, test_heartbeats.py tests on both sides of a connection.
    """
    result = on_ranks(2, distributed_program.__file__, name, tmp_path, TINYLM_RANK_SILENCE="4")
    assert (result.returncode != 0) == (status != 0), result.stderr
    assert told in result.stderr
    if status in (0, 4):
        assert "error" not in result.stderr
    assert result.stdout.count("fine") == (2 if name == "works_long" else 0)


@needs_mpi
@pytest.mark.parametrize("flag", ["--steps", "--eval-every", "--patience", "--batch-size", "--dropout"])
def test_other_settings_on_one_rank_of_the_script(flag: str, tmp_path: Path) -> None:
    common = [SCRIPTS / "train.py", "--distributed", "--n-layer", 1, "--n-embd", 16, "--out", tmp_path / "run"]
    one, other = (0.5, 0.25) if flag == "--dropout" else (4, 2)
    result = on_ranks(1, *common, flag, one, ":", "-n", 1, sys.executable, *common, flag, other)
    assert result.returncode == 2, result.stderr
    assert f"error: {flag} is " in result.stderr
    assert " on rank 1 and " in result.stderr
    assert not (tmp_path / "run").exists()


def test_the_limit_of_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    assert longest_silence() == 60
    for given, seconds in (("1", 1), ("007", 7), ("1000000", 10**6)):
        monkeypatch.setenv("TINYLM_RANK_SILENCE", given)
        assert longest_silence() == seconds
    for wrong in ("0", "-1", "soon", "1.5", "9" * 9, "1000001", "", "٣", "²"):
        monkeypatch.setenv("TINYLM_RANK_SILENCE", wrong)
        with pytest.raises(ConfigError, match=f"TINYLM_RANK_SILENCE is '{wrong}'"):
            longest_silence()


@needs_mpi
def test_the_script_on_two_ranks(tmp_path: Path) -> None:
    small = ["--n-layer", 1, "--n-embd", 16, "--block-size", 16, "--batch-size", 4, "--log-every", 1]
    result = on_ranks(2, SCRIPTS / "train.py", "--distributed", "--steps", 3, "--out", tmp_path / "run", *small)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("2 processes") == 1
    assert result.stdout.count("a sample:") == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [r["step"] for r in lines] == [1, 2, 3, 3]
    again = on_ranks(2, SCRIPTS / "train.py", "--distributed", "--steps", 3, "--out", tmp_path / "run", *small)
    assert again.returncode == 2
    assert again.stderr.count("holds a run already") == 1
    alone = on_ranks(2, SCRIPTS / "train.py", "--steps", 3, "--out", tmp_path / "never")
    assert alone.returncode == 2
    assert "add --distributed" in alone.stderr
    assert not (tmp_path / "never").exists()


def test_rows_and_wrong_settings() -> None:
    ranks = types.SimpleNamespace(rank=2, size=3)
    assert np.arange(12)[own_rows(ranks, 12)].tolist() == [8, 9, 10, 11]
    with pytest.raises(ConfigError, match="batch_size is 4: expected a multiple of the number of ranks, 3"):
        own_rows(ranks, 4)
    assert own_rows(Ranks(), TrainConfig().batch_size) == slice(0, 12)
    refuse_lone_ranks({"PMI_SIZE": "1"})
    with pytest.raises(ConfigError, match="mpiexec started 4 processes"):
        refuse_lone_ranks({"OMPI_COMM_WORLD_SIZE": "4"})


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted"), (ConfigError("lr is x"), 2, "error: lr is x"), (ZeroDivisionError("by 0"), 1, "by 0"),
        (None, None, ""), (SystemExit(3), None, ""),
    ],
)  # fmt: skip
def test_the_exit_status_of_an_error(
    error: BaseException | None, status: int | None, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ranks, ended = object.__new__(MPIRanks), []
    monkeypatch.setattr(ranks, "_heartbeats", None, raising=False)
    monkeypatch.setattr(ranks, "_abort", ended.append)
    ranks.rank = 0
    ranks.__exit__(type(error) if error else None, error, None)
    assert ended == ([] if status is None else [status])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.rstrip().endswith(told)


class GpuArray:
    """What NcclMeans uses of a CuPy array; its memory is NumPy's."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.dtype, self.size = values, values.dtype, values.size
        self.data = types.SimpleNamespace(ptr=values.ctypes.data)

    def __imul__(self, factor: np.generic) -> "GpuArray":
        assert factor.dtype == self.dtype  # a Python float would be a double
        self.values *= factor
        return self


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nccl_is_called_as_documented(dtype: str) -> None:
    """allReduce(sendbuf, recvbuf, count, datatype, op, stream) on the current stream, then the division; tests/gpu calls the real one."""
    array = GpuArray(np.arange(5, dtype=dtype))

    class Communicator:
        def allReduce(self, sent: int, received: int, count: int, kind: int, op: int, stream: int) -> None:
            assert (sent, received, count) == (array.data.ptr, array.data.ptr, 5)
            assert (kind, op, stream) == ({"float32": 7, "float64": 8}[dtype], 0, 99)
            array.values += 4 - np.arange(5, dtype=dtype)  # the other rank's

    nccl = types.SimpleNamespace(NCCL_FLOAT32=7, NCCL_FLOAT64=8, NCCL_SUM=0)
    stream = types.SimpleNamespace(ptr=99)
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(get_current_stream=lambda: stream))
    NcclMeans(nccl, Communicator(), 2, cupy).average(array)
    np.testing.assert_array_equal(array.values, np.full(5, 2, dtype))


@pytest.mark.parametrize(
    ("seen", "devices"),
    [
        ([["a", "b"], ["a", "b"]], ["cuda:0", "cuda:1"]),
        ([["a"], ["b"]], ["cuda:0", "cuda:0"]),  # as a launcher binds them
        ([["a"], ["a"]], ["cuda:0", "cuda:1"]),  # of which the second does not exist
        ([["a"]], ["cuda:0"]),
    ],
)
def test_which_gpu_a_rank_gets(seen: list[list[str]], devices: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    nccl = types.SimpleNamespace(available=True, get_unique_id=lambda: "id", NcclCommunicator=lambda size, name, rank: (size, name, rank))
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", nccl)
    for rank, gpus in enumerate(seen):
        runtime = types.SimpleNamespace(getDeviceCount=lambda gpus=gpus: len(gpus), deviceGetPCIBusId=lambda i, gpus=gpus: gpus[i])
        asked: list[str] = []
        space = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
        monkeypatch.setattr(distributed, "device_namespace", lambda device, asked=asked, space=space: (asked.append(device), space)[1])
        ranks = MPIRanks.__new__(MPIRanks)
        ranks.rank, ranks.size = rank, len(seen)
        ranks._comm = types.SimpleNamespace(bcast=lambda value, root: "id")
        ranks._here = types.SimpleNamespace(rank=rank, allgather=lambda mine, gpus=gpus: seen if mine == gpus else None)
        assert ranks.device("cuda") == devices[rank]
        assert asked[-1] == devices[rank]
        assert ranks._nccl._communicator == (len(seen), "id", rank)
