"""From an op to its kernel: prepares the arguments, calls or launches the kernel, and returns what the op returns."""
