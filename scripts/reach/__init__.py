"""The parts of long_range.py: one file per subcommand, with its options and what it prints."""
