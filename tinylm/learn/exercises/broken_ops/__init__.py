"""Find the bug: ten ops, each with one mistake."""

ORDER = (
    "mean", "tanh", "linear", "logsumexp", "repeated_ids", "standardize", "causal", "dropped", "residual", "silu",
)  # fmt: skip
