"""The CUDA implementations of ops: importing this package registers them. It does not import CuPy."""

from tinylm.bindings.cuda import normalizations as normalizations
