"""The matrix product that the CPU kernels use instead of their own."""

import ctypes
import importlib
import sys
from typing import Any


def sgemm() -> int | None:
    """Returns the address of SciPy's Fortran sgemm on macOS: it is the one of Apple's Accelerate, the only way to the processor's
    matrix units. Returns None elsewhere: the kernels' own product is as fast as that of a BLAS."""
    return scipy_sgemm() if sys.platform == "darwin" else None


def scipy_sgemm() -> int:
    """Returns the address in SciPy's capsule of sgemm."""
    capsule = importlib.import_module("scipy.linalg.cython_blas").__pyx_capi__["sgemm"]
    name: Any = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer: Any = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer(capsule, name(capsule)))
