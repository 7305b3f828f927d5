"""From an op to its kernel: prepares the arguments, calls or launches the kernel, and returns what the op returns."""

FILES_FOR_OPS = (  # in cpu/ and in cuda/
    "activations", "attention", "dropout", "indexing", "joint_linear", "linear", "losses", "normalization", "recurrent", "rotary",
    "softmax",
)  # fmt: skip
