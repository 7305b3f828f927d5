"""The exercises: a folder per chapter, in this order; two files per exercise, the solved one and its marker."""

CHAPTERS = ("ops", "walk", "recurrent", "training", "models", "broken_ops", "broken_loops")
