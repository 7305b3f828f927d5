"""The matrix product of the CPU kernels: SciPy's, which the pool calls from each of its threads."""

import ctypes
import importlib
from typing import Any


def sgemm() -> tuple[int, bool]:
    """The address of SciPy's Fortran sgemm, and whether it works in the calling thread alone.

    A SciPy wheel brings an OpenBLAS that only SciPy uses: it is held to one thread, and NumPy's own keeps what it
    has. Any other BLAS may also serve the user's NumPy and is left as it is. It works in the calling thread
    alone when all that are loaded have one thread (OPENBLAS_NUM_THREADS=1); else, and where nobody can tell (Apple's
    Accelerate), it does whole products with threads of its own while the pool sleeps.
    """
    capsule = importlib.import_module("scipy.linalg.cython_blas").__pyx_capi__["sgemm"]
    threadpoolctl = importlib.import_module("threadpoolctl")  # here, so that importing tinylm stays light
    libraries = [c for c in threadpoolctl.ThreadpoolController().lib_controllers if c.user_api == "blas"]
    own = [c for c in libraries if _belongs_to_scipy(c)]
    for each in own:
        each.set_num_threads(1)
    alone = bool(own or libraries) and all(c.num_threads == 1 for c in own or libraries)
    return _pointer(capsule), alone


def _belongs_to_scipy(controller: Any) -> bool:
    """Whether the library lies in a SciPy wheel: scipy.libs beside the package (Linux), .dylibs in it (macOS)."""
    path = str(controller.filepath).replace("\\", "/")
    return "/scipy.libs/" in path or "/scipy/.dylibs/" in path


def _pointer(capsule: Any) -> int:
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer(capsule, name(capsule)))
