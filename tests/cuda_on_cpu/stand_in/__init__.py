"""A stand-in for CuPy: it computes with NumPy, and has CuPy's names, parameters and separation of host and device."""

from .arrays import ndarray
from .modules import cupy, cupyx, installed
from .synchronisation import DeviceSynchronized, allow_synchronize

__all__ = ["DeviceSynchronized", "allow_synchronize", "cupy", "cupyx", "installed", "ndarray"]
