"""Find the bug: five training loops, each with one mistake."""

ORDER = ("stuck", "bad_samples", "nan_at_300", "leak", "only_float64")
