"""A stand-in for CuPy: NumPy inside, the names, parameters and border of CuPy outside."""

from .arrays import ndarray
from .modules import cupy, cupyx, installed
from .synchronisation import DeviceSynchronized, allow_synchronize

__all__ = ["DeviceSynchronized", "allow_synchronize", "cupy", "cupyx", "installed", "ndarray"]
