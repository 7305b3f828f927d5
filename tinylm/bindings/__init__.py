"""The kernels' side of Python: what prepares the arguments, launches a kernel, and wraps the result as an op does."""
