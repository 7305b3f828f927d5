"""Products of operands rounded to bfloat16 on the CPU: against sums of the rounded numbers in float64, and against the ops' references."""

import numpy as np
import pytest
from helpers import relative_errors
from kernel_helpers import assert_rounded_agrees, attention_inputs, joint_inputs, linear_inputs, recurrent_inputs, without
from op_cases import run

from tinylm import Tensor, ops
from tinylm.bindings.cpu.library import Library, call
from tinylm.engine.grad import grad
from tinylm.engine.products import products, to_bfloat16
from tinylm.verify.jacobians import flatten

pytestmark = pytest.mark.usefixtures("cpu")

ATTENTION = "scaled_dot_product_attention"
LAYOUTS = [(0, 0), (0, 1), (1, 0), (1, 1)]  # which of A and B is stored as its transpose

# Attention's weights and a recurrent layer's states are operands that are computed on the way. One of them within float32's error of the
# middle between two bfloat16 numbers may be rounded to either: 2⁻⁸ of that number. Some such numbers are allowed for.
COMPUTED = 1e-4


def multiplied(a: np.ndarray, b: np.ndarray, a_transposed: int, b_transposed: int) -> np.ndarray:
    (m, k), n = a.shape, b.shape[1]
    a_, b_ = (np.ascontiguousarray(x.T if turned else x) for x, turned in ((a, a_transposed), (b, b_transposed)))
    c = np.full((m + 1, n), np.nan, np.float32)  # the last row must stay as it is
    call("matmul_batches", 1, m, n, k, 1, a_, m * k, a_transposed, b_, k * n, b_transposed, c)
    assert np.isnan(c[m]).all()
    return c[:m]


def factors(m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((m, n, k))
    return rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((k, n)).astype(np.float32)


def assert_rounded(m: int, n: int, k: int, layouts: list[tuple[int, int]]) -> None:
    a, b = factors(m, n, k)
    expected = (to_bfloat16(a).astype(float) @ to_bfloat16(b).astype(float)).astype(np.float32)
    for turned in layouts:
        found = multiplied(a, b, *turned)
        error = relative_errors({"c": (found, expected)})["c"]
        assert error < 1e-5, f"{m} x {k} times {k} x {n}, {turned}: {error:.1e}"


@pytest.mark.parametrize("threads", [1, 3])
def test_every_height(cpu: Library, threads: int) -> None:
    """Tiles of every height, widths that end within a vector or a panel, an odd k, no k, and a k that is a few numbers more than a
    block of pairs."""
    cpu.functions["pool_size"](threads)
    for m in (*range(1, 18), 24, 25, 33, 37):
        for n, k in ((1, 1), (5, 17), (33, 35), (70, 3), (39, 131), (4, 0), (64, 32)):
            assert_rounded(m, n, k, LAYOUTS)


@pytest.mark.parametrize(("m", "n", "k"), [(200, 65, 1030), (97, 600, 20), (193, 530, 515), (16, 200, 700), (3, 40, 4100), (1, 3, 50_000)])
def test_several_blocks(cpu: Library, m: int, n: int, k: int) -> None:
    """Several blocks of the depth, the columns and the rows, and rows with more numbers than the workspaces have."""
    for threads in (1, 2, 5):
        cpu.functions["pool_size"](threads)
        assert_rounded(m, n, k, LAYOUTS[1:3])


def test_a_result_does_not_depend_on_what_is_computed_beside_it(cpu: Library) -> None:
    """A number is the same for any number of threads, among few rows, and among other columns."""
    for m, n, k in ((16, 131, 203), (40, 131, 603)):
        a, b = factors(m, n, k)
        cpu.functions["pool_size"](1)
        once = [multiplied(a, b, *turned) for turned in LAYOUTS]
        for y, turned in zip(once, LAYOUTS, strict=True):
            np.testing.assert_array_equal(multiplied(a, np.ascontiguousarray(b[:, 5:18]), *turned), y[:, 5:18])
            for threads in (2, 3, 6):
                cpu.functions["pool_size"](threads)
                np.testing.assert_array_equal(multiplied(a, b, *turned), y)


@pytest.mark.parametrize(("m", "k"), [(5, 90), (20, 33)])
def test_numbers_at_the_ends_of_the_range(m: int, k: int) -> None:
    """Each number of A times 1: NaN of every kind, infinity, ties, and numbers that round to infinity."""
    ties = [1 + 2.0**-8, 1 + 3 * 2.0**-8]
    positive = [np.inf, np.nan, 3.3895e38, 3.4e38, *ties, 2.0**-126]
    numbers = np.array([*positive, *(-x for x in positive)], np.float32)
    hidden = np.array([0x7F800001, 0xFF80FFFF], np.uint32).view(np.float32)  # NaNs that truncation would make infinite
    values = np.concatenate([numbers, hidden])
    for turned in LAYOUTS:
        for i, value in enumerate(values):
            a, b = np.zeros((m, k), np.float32), np.zeros((k, 19), np.float32)
            a[i % m, k - 1], b[k - 1] = value, 1
            if not np.isfinite(to_bfloat16(value.reshape(1)))[0]:  # infinity times 0 is NaN: only ones meet it
                b[:] = 1
            expected = np.zeros((m, 19), np.float32)
            expected[i % m] = to_bfloat16(value.reshape(1))
            np.testing.assert_array_equal(multiplied(a, b, *turned), expected, f"{value} in A, {turned}")
            np.testing.assert_array_equal(
                multiplied(np.ascontiguousarray(b.T), np.ascontiguousarray(a.T), *turned), expected.T, f"{value} in B, {turned}"
            )


def test_denormal_numbers_are_kept_or_are_zero() -> None:
    """AVX-512 BF16 and AMX take them for zeros."""
    for m in (5, 20):
        a, b = np.full((m, 90), 1e-40, np.float32), np.ones((90, 7), np.float32)
        for turned in LAYOUTS:
            found = multiplied(a, b, *turned)
            assert ((found == 0) | np.isclose(found, 90 * to_bfloat16(a[:1, :1]), 1e-3, 0)).all()


@pytest.mark.parametrize(("shape", "outputs"), [((1, 3), 9), ((3, 5), 100), ((0, 4), 5), ((3, 0), 4), ((700, 2), 33), ((16, 500), 70)])
def test_linear(shape: tuple[int, ...], outputs: int) -> None:
    arrays = linear_inputs(shape, outputs)
    if 0 in shape:  # nothing to round
        with products("bfloat16"):
            assert run("linear", [a.astype(np.float32) for a in arrays], {})[0][0].shape == (*shape[:-1], outputs)
        return
    assert_rounded_agrees("linear", *without(arrays, 2, 3))
    assert_rounded_agrees("linear", *arrays, activation="gelu")


def test_joint_linear_layers() -> None:
    assert_rounded_agrees("swiglu_linear", *joint_inputs((70, 20), 90, 90))
    assert_rounded_agrees("rotary_heads", *joint_inputs((2, 35, 20), 60, 30, 24), frequencies=(1.0, 0.2, 0.05), start=3)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_matmul(lead: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    assert_rounded_agrees("matmul", rng.standard_normal((*lead, 20, 35)), rng.standard_normal((*lead, 35, 6)))


@pytest.mark.parametrize(("steps", "keys", "width"), [(50, 50, 9), (64, 64, 32), (3, 40, 16), (1, 90, 33), (70, 37, 5)])
@pytest.mark.parametrize("causal", [False, True])
def test_attention(steps: int, keys: int, width: int, causal: bool) -> None:
    arrays = attention_inputs(2, 3, steps=steps, keys=keys, width=width)
    assert_rounded_agrees(ATTENTION, *arrays, tolerance=COMPUTED, causal=causal)
    mask = np.random.default_rng(0).random((steps, keys)) < 0.9
    mask[0] = steps == 1  # a query that may look nowhere
    assert_rounded_agrees(ATTENTION, *arrays, mask, tolerance=COMPUTED, causal=causal, dropout=0.2, key=(1, 2), scale=-0.7)


def test_attention_of_heads_that_share_keys() -> None:
    q = attention_inputs(2, 6, steps=50, keys=50, width=9)[0]
    _, k, v = attention_inputs(2, 2, steps=50, keys=50, width=9)
    assert_rounded_agrees(ATTENTION, q, k, v, tolerance=COMPUTED, causal=True)


@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_recurrent_layers(name: str) -> None:
    """Small weights: larger ones amplify every rounding from step to step. With more numbers of a state than a block has."""
    assert_rounded_agrees(name, *recurrent_inputs(name), tolerance=COMPUTED)
    assert_rounded_agrees(name, *recurrent_inputs(name), tolerance=COMPUTED, lengths=np.array([2, 3, 1, 2]), reverse=True)
    for steps, batch, hidden in ((1, 2, 64), (6, 5, 33), (2, 3, 530)):
        arrays = recurrent_inputs(name, steps=steps, batch=batch, hidden=hidden)
        assert_rounded_agrees(name, *(a / hidden**0.5 if i in (1, 2) else a for i, a in enumerate(arrays)), tolerance=COMPUTED)


def gradients(name: str, arrays: list[np.ndarray], forward: str, backward: str) -> list[np.ndarray]:
    tensors = [Tensor(a.astype(np.float32), requires_grad=True) for a in arrays]
    with products(forward):
        made = getattr(ops, name)(*tensors)
    outputs = made if isinstance(made, tuple) else (made,)
    with products(backward):
        joined = flatten(outputs)
        found = grad(joined, tensors, np.random.default_rng(1).standard_normal(joined.size).astype(np.float32))
    return [g.numpy() for g in found]


@pytest.mark.parametrize("name", ["linear", "swiglu_linear", "matmul", ATTENTION, "rnn", "lstm", "gru"])
def test_a_backward_pass_has_the_precision_of_its_forward_pass(name: str) -> None:
    rng = np.random.default_rng(0)
    given = {
        "linear": linear_inputs((20, 30), 9),
        "swiglu_linear": joint_inputs((20, 30), 9, 9),
        "matmul": [rng.standard_normal((20, 30)), rng.standard_normal((30, 9))],
        ATTENTION: attention_inputs(2, steps=20, keys=20, width=9),
    }
    arrays = given.get(name) or recurrent_inputs(name)
    singles, rounded = (gradients(name, arrays, precision, precision) for precision in ("float32", "bfloat16"))
    for forward, backward, expected in (("float32", "bfloat16", singles), ("bfloat16", "float32", rounded)):
        for found, same in zip(gradients(name, arrays, forward, backward), expected, strict=True):
            np.testing.assert_array_equal(found, same)
    assert any((a != b).any() for a, b in zip(singles, rounded, strict=True))
