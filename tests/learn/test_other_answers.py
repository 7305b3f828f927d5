"""Right answers in another style than the solution's pass. (Wrong answers are the exercises' planted mistakes.)"""

from pathlib import Path

import pytest

from tinylm.learn.exercise import Mistake, course
from tinylm.learn.running import mark

ANSWERS = {  # the exercise: what is written otherwise, as changes of the solution
    "multiply": ("return dy * b, dy * a", "return [b * dy, a * dy]"),
    "sum_to": (
        "    front = x.ndim - len(shape)\n",
        "    while x.ndim > len(shape):\n        x = x.sum(0)\n    front = 0\n",
    ),
    "matmul": (
        "y = xp.matmul(a, b)",
        'y = xp.einsum("...nk,...km->...nm", a, b)',
        "return xp.matmul(dy, xp.swapaxes(b, -1, -2)), xp.matmul(xp.swapaxes(a, -1, -2), dy)",
        "return dy @ b.swapaxes(-1, -2), xp.einsum('...nk,...nm->...km', a, dy)",
    ),
    "gelu": ("0.5 * (1 + xp.erf(x / math.sqrt(2)))", "(xp.erf(x * 2**-0.5) + 1) / 2"),
    "softmax": (
        "    y = e / xp.sum(e, axis=-1, keepdims=True)\n",
        "    e /= e.sum(axis=-1, keepdims=True)\n    y = e\n",
        "(y * (dy - xp.sum(dy * y, axis=-1, keepdims=True)),)",
        "[y * dy - y * (dy * y).sum(axis=-1, keepdims=True)]",
    ),
    "cross_entropy": ("-xp.mean(log_p[rows, targets]), vjp", "-(log_p * np.eye(logits.shape[1])[targets]).sum() / len(targets), vjp"),
    "backward": (
        "parent.grad = g if parent.grad is None else parent.grad + g",
        "parent.grad = (0 if parent.grad is None else parent.grad) + g",
    ),
    "hvp": ("return tinylm.grad((g * v).sum(), x)", "(g * v).sum().backward()\n    return x.grad"),
    "truncated": ("state = state.detach()", "state = type(state)(state.numpy())"),
    "adam": ("return w - lr * mean / (np.sqrt(square) + eps), m, v", "return [w - lr * mean / (square**0.5 + eps), m, v]"),
    "clipping": ("return norm, [g * factor for g in grads]", "return [norm, tuple(factor * g for g in grads)]"),
    "schedule": (
        "    if step >= steps:\n        return min_lr\n    done = (step - warmup) / (steps - warmup)\n",
        "    done = min((step - warmup) / max(steps - warmup, 1), 1.0)\n",
    ),
    "gpt": (
        "        self.lm_head.weight = self.wte.weight\n",
        "        self.wte.weight = self.lm_head.weight\n",
        "self.lm_head(self.ln_f(x))",
        "self.ln_f(x) @ self.wte.weight.T",
    ),
    "causal": (
        "xp.where(seen, xp.matmul(q, xp.swapaxes(k, -1, -2)) * scale, -math.inf)",
        "xp.matmul(q, xp.swapaxes(k, -1, -2)) * scale",
        "xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))",
        "xp.exp(scores - xp.max(scores, axis=-1, keepdims=True)) * seen",
    ),
    "standardize": ("xp.mean((x - mean) * (x - mean), axis=-1, keepdims=True)", "xp.var(x, axis=-1, keepdims=True)"),
    "nan_at_300": ("max(float(kept.sum()), 1.0)", "(kept.sum() + 1e-8)"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_right_answer_in_another_style_passes(name: str, tmp_path: Path) -> None:
    exercise = next(e for e in course() if e.name == name)
    path = tmp_path / exercise.file_name
    path.write_text(Mistake.of("", *ANSWERS[name]).on(exercise.solution()), encoding="utf-8")
    result = mark(path, exercise.marker.mark)
    assert result.ok, result


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Some editors write one in front of a file in UTF-8."""
    path = tmp_path / course()[0].file_name
    path.write_text(course()[0].solution(), encoding="utf-8-sig")
    assert mark(path, course()[0].marker.mark).ok
