"""Find the bug: ten ops, each with one mistake."""

ORDER = (
    "mean", "tanh", "linear", "logsumexp", "rare_words", "standardize", "causal", "dropped", "residual", "silu",
)  # fmt: skip
