"""The parts of explain.py: one file per subcommand, with its options and what it prints."""
