"""The engine: tensors, the tape and its walk, ops and their kernels, devices and random numbers."""
