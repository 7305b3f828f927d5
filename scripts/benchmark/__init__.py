"""The parts of the command scripts/benchmark.py. `import benchmark` finds this folder: a package goes before a module of the same name."""

import support  # noqa: F401 - a checkout where tinylm is not installed finds it
