"""Training: what makes of a gradient a better model."""

ORDER = ("adam", "clipping", "schedule")
