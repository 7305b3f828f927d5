"""Each part that a GPU needs and a machine may lack is named in one line, with its remedy, and told apart from the others."""

import importlib.metadata
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
from script_helpers import SCRIPTS, fails_with_one_line, script_here

from tinylm.engine import arrays, cuda_probe
from tinylm.engine.arrays import cuda_namespace
from tinylm.engine.devices import device_namespace
from tinylm.errors import DeviceError


class CUDARuntimeError(RuntimeError):
    """As CuPy's error: its number is an attribute."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def fake_cupy(*, count: Any = 1, driver: int = 12080, nvrtc: Any = (12, 9), version: str = "14.2.0") -> types.ModuleType:
    """Returns a module that replaces CuPy and answers the probe's questions; an answer that is an exception is raised."""

    def answer(value: Any) -> Callable[[], Any]:
        def reply() -> Any:
            if isinstance(value, Exception):
                raise value
            return value

        return reply

    module: Any = types.ModuleType("cupy")
    module.__version__ = version
    module.ndarray = type("ndarray", (), {})
    runtime = types.SimpleNamespace(
        getDeviceCount=answer(count), driverGetVersion=answer(driver), runtimeGetVersion=answer(12090), getDevice=answer(0)
    )
    module.cuda = types.SimpleNamespace(runtime=runtime, nvrtc=types.SimpleNamespace(getVersion=answer(nvrtc)))
    return module


def no_module(name: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(f"No module named {name!r}", name=name)


def banner(reason: str) -> ImportError:
    """Returns what CuPy raises if a shared library does not load: the reason is the cause, below a banner."""
    error = ImportError("\n================\nFailed to import CuPy.\n================\n")
    error.__cause__ = ImportError(reason)
    return error


INSUFFICIENT = CUDARuntimeError(35, "cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")

# name: (what `import cupy` gives or raises, the CuPy packages that are installed, the message)
MACHINES: dict[str, tuple[Any, tuple[str, ...], str]] = {
    "no CuPy": (
        no_module("cupy"),
        (),
        "device 'cuda' needs CuPy, which is not installed: pip install \"cupy-cuda12x[ctk]\", or "
        '"cupy-cuda13x[ctk]" for a driver that serves CUDA 13 (nvidia-smi shows it)',
    ),
    "a dependency of CuPy is missing": (
        no_module("cuda"),
        ("cupy-cuda13x",),
        "CuPy does not import (it needs 'cuda'): pip install --force-reinstall \"cupy-cuda13x[ctk]\"",
    ),
    "a part of CuPy is missing": (
        no_module("cupy._core"),
        ("cupy-cuda12x",),
        "CuPy does not import (it needs 'cupy._core'): pip install --force-reinstall \"cupy-cuda12x[ctk]\"",
    ),
    "a library of CuPy does not load": (
        banner("libcublas.so.12: cannot open shared object file\nmore"),
        ("cupy-cuda12x",),
        'CuPy does not import (libcublas.so.12: cannot open shared object file): pip install --force-reinstall "cupy-cuda12x[ctk]"',
    ),
    "CuPy fails without a word": (
        ImportError(""),
        (),
        'CuPy does not import (ImportError): pip install --force-reinstall "cupy-cuda12x[ctk]"',
    ),
    "two CuPys": (
        UserWarning("CuPy may not function correctly because multiple CuPy packages are installed"),
        ("cupy-cuda12x", "cupy-cuda13x"),
        "CuPy does not import (CuPy may not function correctly because multiple CuPy packages are installed), "
        "and cupy-cuda12x and cupy-cuda13x are both installed: pip uninstall all but one",
    ),
    "an empty folder in CuPy's place": (
        types.ModuleType("cupy"),
        (),
        "CuPy does not import (module 'cupy' has no attribute '__version__'): pip install --force-reinstall \"cupy-cuda12x[ctk]\"",
    ),
    "an old CuPy": (
        fake_cupy(version="13.6.0"),
        ("cupy-cuda12x",),
        'CuPy 13.6.0 is too old, expected 14 or newer: pip install --upgrade "cupy-cuda12x[ctk]"',
    ),
    "no driver": (
        fake_cupy(count=INSUFFICIENT, driver=0),
        ("cupy-cuda12x",),
        "device 'cuda' needs an NVIDIA driver, and there is none: install it (nvidia-smi then lists the GPU)",
    ),
    "an old driver": (
        fake_cupy(count=INSUFFICIENT, driver=11080),
        ("cupy-cuda12x",),
        "the NVIDIA driver serves CUDA 11.8, this CuPy needs CUDA 12.9: update the driver, "
        "or install the CuPy for its CUDA (cupy-cuda12x or cupy-cuda13x)",
    ),
    "a driver updated under way": (
        fake_cupy(count=CUDARuntimeError(803, "cudaErrorSystemDriverMismatch: system has unsupported display driver")),
        ("cupy-cuda12x",),
        "the NVIDIA driver and its kernel module are of different versions "
        "(cudaErrorSystemDriverMismatch: system has unsupported display driver): restart the machine",
    ),
    "a driver in trouble": (
        fake_cupy(count=CUDARuntimeError(999, "cudaErrorUnknown: unknown error")),
        ("cupy-cuda12x",),
        "the NVIDIA driver does not answer (cudaErrorUnknown: unknown error): see what nvidia-smi says",
    ),
    "no GPU": (
        fake_cupy(count=CUDARuntimeError(100, "cudaErrorNoDevice: no CUDA-capable device is detected")),
        ("cupy-cuda12x",),
        "device 'cuda' needs an NVIDIA GPU, and the driver finds none: nvidia-smi must list one (a container needs --gpus all)",
    ),
    "no GPU, and no error": (
        fake_cupy(count=0),
        ("cupy-cuda12x",),
        "device 'cuda' needs an NVIDIA GPU, and the driver finds none: nvidia-smi must list one (a container needs --gpus all)",
    ),
    "no NVRTC": (
        fake_cupy(nvrtc=RuntimeError('Failure finding "libnvrtc.so": No such file: libnvrtc.so*\nlisting')),
        ("cupy-cuda13x",),
        'CuPy and a GPU are there, but not NVRTC, which compiles the kernels (Failure finding "libnvrtc.so": No such file: libnvrtc.so*): '
        'pip install "cupy-cuda13x[ctk]"',
    ),
}


@pytest.fixture(params=MACHINES)
def message(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes this machine lack something, and returns the message that should say so."""
    found, installed, expected = MACHINES[request.param]
    put_in_place(monkeypatch, found, installed)
    return expected


def put_in_place(monkeypatch: pytest.MonkeyPatch, found: Any, installed: tuple[str, ...]) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(arrays, "_namespaces", {k: v for k, v in arrays._namespaces.items() if k.__module__.partition(".")[0] != "cupy"})
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    real_import = importlib.import_module

    def import_module(name: str) -> Any:
        if name == "importlib.metadata":
            return types.SimpleNamespace(distribution=distribution, PackageNotFoundError=importlib.metadata.PackageNotFoundError)
        if name != "cupy":
            return real_import(name)
        if isinstance(found, Exception):
            raise found
        monkeypatch.setitem(sys.modules, "cupy", found)
        return found

    def distribution(name: str) -> Any:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(cuda_probe, "importlib", types.SimpleNamespace(import_module=import_module))


def test_the_missing_piece_and_its_remedy(message: str) -> None:
    with pytest.raises(DeviceError) as caught:
        device_namespace("cuda")
    assert str(caught.value) == message
    with pytest.raises(DeviceError) as caught:  # and again: no partial state was kept
        device_namespace("cuda:1")
    assert str(caught.value) == message


def test_the_messages_differ() -> None:
    messages = [message for _, _, message in MACHINES.values()]
    assert len(set(messages)) == len(messages) - 1  # "no GPU" can show itself in two ways
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize("count", [0, CUDARuntimeError(100, "cudaErrorNoDevice")])
def test_gpus_that_a_variable_hides(count: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_place(monkeypatch, fake_cupy(count=count), ())
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceError, match="the NVIDIA driver shows no GPU, and CUDA_VISIBLE_DEVICES is '': unset it"):
        device_namespace("cuda")


def test_a_machine_that_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = fake_cupy(count=2)
    chosen = [0]

    class Device:
        def __init__(self, index: int) -> None:
            self.id = index

        def use(self) -> None:
            chosen.append(self.id)

    cupy.cuda.Device = Device
    cupy.cuda.runtime.getDevice = lambda: chosen[-1]
    put_in_place(monkeypatch, cupy, ("cupy-cuda12x",))
    space = device_namespace("cuda:1")
    assert space is device_namespace("cuda") is cuda_namespace()
    assert space.ndarray is cupy.ndarray
    assert chosen == [0, 1, 0]  # the requested GPU becomes the current one
    with pytest.raises(DeviceError, match=r"device 'cuda:2' does not exist: this machine has 2 \(cuda:0 to cuda:1\)"):
        device_namespace("cuda:2")


def test_the_packages_that_are_installed() -> None:
    """Asks this environment itself."""
    names = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    assert cuda_probe._installed() == [p for p in ("cupy-cuda12x", "cupy-cuda13x", "cupy") if p in names]


# ---------------------------------------------------------------- what the scripts say

COMMANDS = {
    "train.py": [],
    "generate.py": ["no-such-run"],
    "score.py": ["no-such-run", "a text"],
    "evaluate.py": ["no-such-run"],
    "long_range.py": ["context", "no-such-run"],
    "translate.py": ["train"],
    "check_gradients.py": [],
    "compare_gradients.py": [],
    "benchmark.py": ["--against", "torch"],
    "growth.py": [],
    "explain.py": ["backward", "no-such-run", "a text"],
}


def test_all_scripts_that_take_a_device_are_tried() -> None:
    assert set(COMMANDS) >= {path.name for path in SCRIPTS.glob("*.py") if "    device: str" in path.read_text(encoding="utf-8")}


@pytest.mark.parametrize("name", COMMANDS)
def test_scripts_say_it_in_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, installed, message = MACHINES["no driver"]
    put_in_place(monkeypatch, found, installed)
    fails_with_one_line(script_here(name, *COMMANDS[name], "--device", "cuda"), message)


def test_doctor_says_the_same(message: str) -> None:
    result = script_here("doctor.py")
    assert result.returncode == 0, "a missing GPU is not an error"
    assert message in " ".join(result.stdout.split())
