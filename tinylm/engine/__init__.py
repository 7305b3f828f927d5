"""The engine: tensors, the tape and its walk, ops and their kernels, devices and random numbers.

Read it in this order: tensor.py, op.py (how a call becomes a node), autograd.py (the nodes and the walk), grad.py,
recompute.py; then arrays.py and devices.py, and kernels.py, which chooses the implementation.
"""
