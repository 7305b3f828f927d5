"""Learning by doing: exercises that the checker marks."""
