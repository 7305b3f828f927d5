"""Marks Adam."""

import numpy as np

from tinylm import optim
from tinylm.engine.tensor import Tensor
from tinylm.learn.comparing import compare
from tinylm.learn.exercise import Mistake
from tinylm.learn.op_marking import normal
from tinylm.learn.work import Work

HINTS = (
    "Four lines: m = beta1 * m + (1 - beta1) * g; the same for v with g * g; the two corrections; the step.",
    "The corrected values are used in the step only: return the uncorrected m and v, which the next step goes on with.",
)
THEN = "tinylm/optim/adam.py does it in place on one flat array, block by block."
MISTAKES = (
    Mistake.of(
        "no bias correction", "mean, square = m / (1 - beta1**t), v / (1 - beta2**t)", "mean, square = m, v", says="bias correction"
    ),
    Mistake.of("the corrected means are carried on", "+ eps), m, v", "+ eps), mean, square", says="without the correction"),
    Mistake.of("eps within the root", "(np.sqrt(square) + eps)", "np.sqrt(square + eps)", says="outside the root"),
    Mistake.of("no root", "np.sqrt(square)", "square", says="root"),
    Mistake.of("the square of the mean", "(1 - beta2) * g * g", "(1 - beta2) * m * m", says="the square of g"),
    Mistake.of("uphill", "return w - lr", "return w + lr", says="sign"),
    Mistake.of("the usual numbers instead of the arguments", "m = beta1 * m + (1 - beta1) * g", "m = 0.9 * m + 0.1 * g", says="arguments"),
    Mistake.of("in place", "    m = beta1 * m + (1 - beta1) * g\n", "    m *= beta1\n    m += (1 - beta1) * g\n", says="in place"),
)


def _step(w, g, m, v, t, lr, b1=0.9, b2=0.999, eps=1e-8, power=0.5, inside=False, correct=True, of=None):
    m = b1 * m + (1 - b1) * g
    v = b2 * v + (1 - b2) * (g if of is None else m) ** 2
    a, b = (m / (1 - b1**t), v / (1 - b2**t)) if correct else (m, v)
    return w - lr * a / ((b + eps) ** power if inside else b**power + eps), m, v


def mark(work: Work) -> None:
    adam, lr = work.get("adam"), 0.1
    w, m, v = normal(5), np.zeros(5), np.zeros(5)
    p = Tensor(w.copy(), requires_grad=True)
    optimizer = optim.Adam([p], lr=lr)
    for t in range(1, 4):
        work.begin(f"step {t}, against tinylm's Adam")
        g = normal(5, seed=t) * np.array([1e-6, 1e-3, 1, 1, 100])
        kept = [x.copy() for x in (w, g, m, v)]
        result = adam(w, g, m, v, t, lr=lr)
        if any(not np.array_equal(a, b) for a, b in zip((w, g, m, v), kept, strict=True)):
            raise work.wrong("an argument has other numbers after the call", "it was changed in place: m = ..., not m *= ...", adam)
        work.expect(isinstance(result, tuple | list) and len(result) == 3, "expected the three arrays (w', m', v')", "", adam)
        p.grad = g.copy()
        optimizer.step()
        _, right_m, right_v = _step(w, g, m, v, t, lr)
        corrected = right_m / (1 - 0.9**t), right_v / (1 - 0.999**t)
        phrase = "m and v are returned without the correction: the next step goes on with them"
        compare(work, "m'", result[1], right_m, causes={phrase: corrected[0]}, where=adam)
        square = {phrase: corrected[1], "v' takes the square of g, not of the mean": _step(w, g, m, v, t, lr, of="m")[2]}
        compare(work, "v'", result[2], right_v, causes=square, where=adam)
        causes = {
            "the bias correction is missing: m'/(1 - β1ᵗ) and v'/(1 - β2ᵗ)": _step(w, g, m, v, t, lr, correct=False)[0],
            "eps belongs outside the root": _step(w, g, m, v, t, lr, inside=True)[0],
            "the root of v̂ is missing": _step(w, g, m, v, t, lr, power=1)[0],
            "the sign is wrong: this step goes uphill": 2 * w - _step(w, g, m, v, t, lr)[0],
        }
        compare(work, "w'", result[0], p.numpy(), causes=causes, where=adam)
        w, m, v = result
    work.begin("other settings: beta1, beta2 and eps")
    settings = {"lr": lr, "beta1": 0.5, "beta2": 0.8, "eps": 1e-2}
    right = _step(w, g, m, v, 4, lr, 0.5, 0.8, 1e-2)
    cause = "β1, β2 and eps are arguments: take them as they are called"
    usual = _step(w, g, m, v, 4, lr)
    for name, got, expected, fixed in reversed([*zip(("w'", "m'", "v'"), adam(w, g, m, v, 4, **settings), right, usual, strict=True)]):
        compare(work, f"{name} with beta1=0.5, beta2=0.8, eps=0.01", got, expected, causes={cause: fixed}, where=adam)
