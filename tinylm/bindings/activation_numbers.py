"""The numbers by which kernels know the nonlinearities: as in kernels/cpu/activations.h and kernels/cuda/activations.cuh."""

_NUMBERS = {None: 0, "relu": 1, "gelu": 2, "silu": 3, "sigmoid": 4, "tanh": 5}
LINEAR_ACTIVATIONS = {name: _NUMBERS[name] for name in (None, "relu", "gelu", "silu", "sigmoid")}
RNN_NONLINEARITIES = {name: _NUMBERS[name] for name in ("tanh", "relu", "sigmoid")}
