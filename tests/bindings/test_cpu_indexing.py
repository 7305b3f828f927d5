"""Embedding on the CPU against the reference in float64."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_helpers import assert_agrees, assert_declines, assert_same_whatever_the_layout

import tinylm
from tinylm import Tensor
from tinylm.bindings.cpu import indexing
from tinylm.bindings.cpu.library import Library
from tinylm.errors import RangeError

pytestmark = pytest.mark.usefixtures("cpu")


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((37,), 5, 6), ((3, 4), 50, 33), ((300,), 3, 100), ((1,), 1, 1), ((4,), 6, 4097), ((0,), 4, 4), ((), 3, 32), ((5,), 3, 0)],
)
@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_embedding(shape: tuple[int, ...], rows: int, columns: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    ids, weight = rng.integers(0, rows, shape).astype(dtype), rng.standard_normal((rows, columns))
    assert_agrees("embedding", ids, weight, device="cpu")
    found = assert_agrees("embedding", ids, weight, device="cpu", padding_idx=0)
    assert not found["gradient 0"][0].any()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 50), max_size=2), st.integers(1, 40), st.integers(1, 70), st.sampled_from([1, 2, 3, 5]))
def test_drawn_shapes(cpu: Library, shape: list[int], rows: int, columns: int, threads: int) -> None:
    cpu.functions["pool_size"](threads)
    rng = np.random.default_rng(1)
    assert_agrees("embedding", rng.integers(0, rows, shape), rng.standard_normal((rows, columns)), device="cpu")


def test_a_table_that_is_not_a_matrix_is_left_to_the_reference() -> None:
    assert_declines("embedding", np.array([1, 0, 1]), np.ones((2, 3, 4)), device="cpu")


def test_the_order_of_additions_is_the_order_of_positions() -> None:
    """In float32, 1 is lost if it is added to 2²⁴, but not if 2²⁴ - 2²⁴ comes first."""
    big = np.float32(2**24)
    _, vjp = indexing.embedding(np.zeros(3, np.int64), np.zeros((1, 1), np.float32))
    for values, expected in [((big, 1, -big), 0), ((big, -big, 1), 1)]:
        assert vjp(np.array(values, np.float32)[:, None])[1].item() == expected


@pytest.mark.parametrize("bad", [4, -1])
def test_an_id_out_of_range(bad: int) -> None:
    with pytest.raises(RangeError, match=f"token id {bad} is out of range: expected 0 to 3"):
        tinylm.embedding(np.array([1, bad]), Tensor(np.ones((4, 3), np.float32)))


def test_nan_and_infinity_pass() -> None:
    weight = np.ones((3, 20), np.float32)
    weight[1, 18], weight[2, 3] = np.nan, np.inf
    y, vjp = indexing.embedding(np.array([2, 1, 1]), weight)
    np.testing.assert_array_equal(y, weight[[2, 1, 1]])
    np.testing.assert_array_equal(np.isnan(vjp(y)[1]), np.isnan(weight))


def test_other_layouts_and_a_second_backward_pass() -> None:
    rng = np.random.default_rng(0)
    ids, weight = rng.integers(0, 9, (6, 8)), rng.standard_normal((9, 20)).astype(np.float32)
    y, vjp = indexing.embedding(ids, weight)
    turned_y, turned_vjp = indexing.embedding(np.asfortranarray(ids), np.asfortranarray(weight))
    np.testing.assert_array_equal(y, turned_y)
    assert_same_whatever_the_layout(y * 2 + 1, vjp, turned_vjp)
