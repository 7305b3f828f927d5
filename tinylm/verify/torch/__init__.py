"""Comparisons with PyTorch: its twins of layers, models, optimisers and training. Everything here imports PyTorch."""
