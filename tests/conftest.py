"""Settings for every test: hypothesis without deadlines, one PyTorch thread, a fresh seed; one process per core for all tests."""

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
from cuda_on_cpu import reporting
from cuda_on_cpu.emulator import Kernel
from cuda_on_cpu.fixtures import emulated_cuda, has_gpu  # noqa: F401
from device_helpers import cuda  # noqa: F401
from hypothesis import settings

import tinylm
from tinylm.bindings.cpu.cores import thread_count

os.environ.setdefault("OMP_NUM_THREADS", "1")
settings.register_profile("default", deadline=None, max_examples=25)
settings.register_profile("ci", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """All tests run in one process per core, at most 8, if pytest-xdist is installed; a file's tests share one, for its fixtures' sake.

    `-n` says otherwise. Named files run in this process, which starts at once, and so do the tests of a GPU, which they would share:
    these are looked for in their folder alone, since a machine with a GPU may lack what the other tests import.
    """
    all_tests = config.args_source == pytest.Config.ArgsSource.TESTPATHS
    first = "PYTEST_XDIST_WORKER" not in os.environ  # the others come here, too
    if all_tests and set(config.option.markexpr.split(" or ")) <= {"cuda", "cuda_long"}:
        config.args = [str(Path(__file__).with_name("gpu"))]
    elif first and all_tests and config.pluginmanager.hasplugin("xdist") and config.option.numprocesses is None:
        config.option.numprocesses, config.option.dist = min(thread_count(), 8), "loadfile"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tells the first process which kernels this one has emulated."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["emulated"] = dict(Kernel.launches)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Counts the kernels that another process has emulated; one that crashed tells nothing."""
    Kernel.launches.update(getattr(node, "workeroutput", {}).get("emulated", {}))


def pytest_configure(config: pytest.Config) -> None:
    """On a GPU, whose machine may have newer versions of NumPy, CuPy and PyTorch than the project's, what they deprecate is no error."""
    if has_gpu():
        for category in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning", "numpy.exceptions.VisibleDeprecationWarning"):
            config.addinivalue_line("filterwarnings", f"default::{category}")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Prints the line about the GPU, which -q would hide if it were in pytest's header."""
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.write_line(reporting.header())


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if line := reporting.summary():
        terminalreporter.write_line(line)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    tinylm.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    try:
        import torch
    except ModuleNotFoundError:  # on a machine that only lends its GPU
        return
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def hugging_face() -> Any:
    """Returns the package transformers, imported here since that takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of packages that it imports
        warnings.simplefilter("ignore", FutureWarning)
        import transformers
        from transformers.models.gpt2 import modeling_gpt2  # noqa: F401  (imported lazily otherwise)
        from transformers.models.llama import modeling_llama  # noqa: F401
    return transformers
