"""CUDA C on the CPU: compiled with g++, one fiber per thread, every launch in several thread orders."""

from .building import BuildError, unavailable
from .launching import Kernel, LaunchError, Module

__all__ = ["BuildError", "Kernel", "LaunchError", "Module", "unavailable"]
