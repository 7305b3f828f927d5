"""Matrix products on the CPU, of small whole numbers: float32 adds these up exactly in any order, so every result is compared exactly."""

import numpy as np
import pytest

from tinylm.bindings.cpu.library import Library, call

pytestmark = pytest.mark.usefixtures("cpu")


def whole_numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).integers(-3, 4, shape).astype(np.float32)


def multiplied(a: np.ndarray, b: np.ndarray, a_transposed: int, b_transposed: int) -> np.ndarray:
    """Returns A B, computed from factors that are stored as they are or as their transposes."""
    (m, k), n = a.shape, b.shape[1]
    a_, b_ = (np.ascontiguousarray(x.T if turned else x) for x, turned in ((a, a_transposed), (b, b_transposed)))
    c = np.full((m + 1, n), np.nan, np.float32)  # the last row must stay as it is
    call("matmul_batches", 1, m, n, k, 0, a_, m * k, a_transposed, b_, k * n, b_transposed, c)
    assert np.isnan(c[m]).all()
    return c[:m]


def assert_exact(m: int, n: int, k: int) -> None:
    a, b = whole_numbers(m, k), whole_numbers(k, n)
    for a_transposed in (0, 1):
        for b_transposed in (0, 1):
            message = f"{m} x {k} times {k} x {n}, {a_transposed} {b_transposed}"
            np.testing.assert_array_equal(multiplied(a, b, a_transposed, b_transposed), a @ b, message)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("m", [*range(1, 20), 24, 25, 37])
def test_every_height(cpu: Library, m: int, threads: int) -> None:
    """Few rows and tiles of every height, widths that end within a vector or a panel, k that is no multiple of a vector."""
    cpu.functions["pool_size"](threads)
    for n, k in ((1, 1), (3, 16), (5, 17), (33, 35), (70, 3), (64, 33), (39, 131)):
        assert_exact(m, n, k)


@pytest.mark.parametrize("threads", [1, 2, 5, 8])
@pytest.mark.parametrize(("m", "n", "k"), [(200, 65, 1030), (97, 600, 20), (193, 530, 515), (16, 200, 700), (13, 1100, 30), (1, 3, 2000)])
def test_several_blocks(cpu: Library, m: int, n: int, k: int, threads: int) -> None:
    """Several blocks of the depth, the columns and the rows; several parts in each direction; more parts than panels."""
    cpu.functions["pool_size"](threads)
    assert_exact(m, n, k)


def test_a_result_does_not_depend_on_what_is_computed_beside_it(cpu: Library) -> None:
    """A row is the same among few rows, a column among other columns, and both for any number of threads."""
    rng = np.random.default_rng(0)
    for m, n, k in ((16, 131, 203), (40, 131, 603)):
        x, weight = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((n, k)).astype(np.float32)
        cpu.functions["pool_size"](1)
        y = multiplied(x, weight.T, 0, 1)
        np.testing.assert_array_equal(multiplied(x, weight[5:18].T, 0, 1), y[:, 5:18])
        for threads in (2, 3, 4, 6):
            cpu.functions["pool_size"](threads)
            np.testing.assert_array_equal(multiplied(x, weight.T, 0, 1), y)
        for first in range(0, 8, 3):
            rows = slice(first, first + (1 if m == 16 else 24))
            np.testing.assert_array_equal(multiplied(x[rows], weight.T, 0, 1), y[rows])


def test_few_rows_keep_infinities_and_nan_where_they_are() -> None:
    x, weight = np.ones((3, 21), np.float32), np.ones((9, 21), np.float32)
    x[1, 20], weight[4, 18], weight[6, 20] = np.inf, np.nan, 0
    y = multiplied(x, weight.T, 0, 1)
    assert np.isnan(y[:, 4]).all()
    assert np.isnan(y[1, 6])  # infinity times 0
    expected = np.full((3, 9), 21.0)
    expected[1], expected[:, 6] = np.inf, 20
    expected[:, 4] = expected[1, 6] = np.nan
    np.testing.assert_array_equal(y, expected)
