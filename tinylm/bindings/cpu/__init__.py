"""The CPU implementations of ops: importing this package registers them. Nothing is compiled or loaded before the first call."""

import importlib

from tinylm.bindings import FILES_FOR_OPS

for _file in FILES_FOR_OPS:
    importlib.import_module(f"tinylm.bindings.cpu.{_file}")
