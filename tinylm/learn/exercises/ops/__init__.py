"""Ops: a value and its vjp."""

ORDER = (
    "multiply", "add", "sum_to", "matmul", "gelu", "softmax", "cross_entropy", "layer_norm", "embedding", "dropout", "attention",
)  # fmt: skip
