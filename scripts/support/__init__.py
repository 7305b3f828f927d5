"""What the commands in scripts/ have in common: the command line, tables, figures, and what a person sees of a training run."""
