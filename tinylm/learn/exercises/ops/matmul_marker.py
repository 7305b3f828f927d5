"""Marks the matrix product."""

from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import call, check_op, normal
from tinylm.learn.work import Work

HINTS = (
    "da has a's shape (n, k). dy is (n, m), b is (k, m): only dy times b transposed, (n, m) (m, k), gives (n, k).",
    "db has b's shape (k, m): a transposed (k, n) times dy (n, m).",
    "With leading axes .T would reverse all axes; xp.swapaxes(b, -1, -2) swaps the last two.",
)
THEN = "tinylm/ops/linear.py has it as `matmul`, with vectors and broadcast batches as well."
MISTAKES = (
    Mistake.of("b is not transposed", "xp.matmul(dy, xp.swapaxes(b, -1, -2))", "xp.matmul(dy, b)", says="a transposition is missing"),
    Mistake.of("the factors of db in the wrong order", "xp.matmul(xp.swapaxes(a, -1, -2), dy)", "xp.matmul(dy, xp.swapaxes(a, -1, -2))"),
    Mistake.of("all axes reversed", "xp.swapaxes(b, -1, -2)", "b.T", says="b.T reverses every axis"),
    Mistake.of("PyTorch's transpose", "xp.swapaxes(b, -1, -2)", "xp.transpose(b, -1, -2)", says="xp.swapaxes(x, -1, -2)"),
    Mistake.of(
        "the gradients in the wrong order",
        "return xp.matmul(dy, xp.swapaxes(b, -1, -2)), xp.matmul(xp.swapaxes(a, -1, -2), dy)",
        "return xp.matmul(xp.swapaxes(a, -1, -2), dy), xp.matmul(dy, xp.swapaxes(b, -1, -2))",
        says="swapped: this has the shape of b",
    ),
    Mistake.of("an element-wise product", "y = xp.matmul(a, b)", "y = a * b", says="element by element"),
    Mistake.of(
        "NumPy's own function",
        "xp.matmul(dy, xp.swapaxes(b, -1, -2))",
        "np.matmul(dy, np.swapaxes(b, -1, -2))",
        "import tinylm\n",
        "import numpy as np\n\nimport tinylm\n",
        says="call xp.matmul",
    ),
)


def _causes(a, b):
    return {"a * b multiplies element by element: xp.matmul": a * b} if a.shape == b.shape else {}


def mark(work: Work) -> None:
    calls = [call(normal(2, 2), normal(2, 2, seed=1)), call(normal(2, 3), normal(3, 4)), call(normal(2, 1, 3), normal(2, 3, 2))]
    check_op(work, "matmul", calls, causes=_causes)
