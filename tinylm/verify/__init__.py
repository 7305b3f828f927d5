"""Checks of gradients: against finite differences, and against PyTorch where it is installed."""

from tinylm.verify.finite_differences import gradcheck as gradcheck
