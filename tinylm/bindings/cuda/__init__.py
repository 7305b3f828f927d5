"""The CUDA implementations of ops: importing this package registers them. It does not import CuPy.

Those of the optimisers' updates are in `updates`, which tinylm.optim imports.
"""

import importlib

from tinylm.bindings import FILES_FOR_OPS

for _file in FILES_FOR_OPS:
    importlib.import_module(f"tinylm.bindings.cuda.{_file}")
