"""The parts of the command scripts/benchmark.py. `import benchmark` finds this folder: a package goes before a module of the same name."""
