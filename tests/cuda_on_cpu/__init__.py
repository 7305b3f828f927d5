"""Tests tinylm's CUDA side on a machine without a GPU: an emulator of CUDA C and a stand-in for CuPy."""
