"""The matrix product that the CPU kernels use instead of their own."""

import ctypes
import importlib
import sys
from typing import Any


def sgemm() -> int | None:
    """On macOS the address of SciPy's Fortran sgemm: it is that of Apple's Accelerate, the only way to a processor's
    units for matrices. Elsewhere None: the kernels' own product is as fast as a BLAS's."""
    return scipy_sgemm() if sys.platform == "darwin" else None


def scipy_sgemm() -> int:
    """The address that a capsule of SciPy's holds."""
    capsule = importlib.import_module("scipy.linalg.cython_blas").__pyx_capi__["sgemm"]
    name: Any = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer: Any = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer(capsule, name(capsule)))
