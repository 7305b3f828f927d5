"""The gradient of an embedding on a GPU against the reference in float64."""

import numpy as np
import pytest
from kernel_helpers import assert_agrees

import tinylm
from tinylm import Tensor
from tinylm.bindings.cuda import indexing
from tinylm.engine.devices import to_device
from tinylm.engine.kernels import launches
from tinylm.errors import RangeError

pytestmark = pytest.mark.usefixtures("cuda")


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((37,), 5, 6), ((3, 4), 50, 33), ((300,), 3, 100), ((1,), 1, 1), ((4,), 6, 4097), ((0,), 4, 4), ((), 3, 32)],
)
@pytest.mark.parametrize("dtype", ["int64", "int32"])
def test_embedding(shape: tuple[int, ...], rows: int, columns: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    ids, weight = rng.integers(0, rows, shape).astype(dtype), rng.standard_normal((rows, columns))
    assert_agrees("embedding", ids, weight)
    found = assert_agrees("embedding", ids, weight, padding_idx=0)
    assert not found["gradient 0"][0].any()


def test_a_table_of_so_many_rows_that_a_block_takes_all_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "_ENOUGH_BLOCKS", 1)
    ids = np.array([2, 0, 2, 5, 2])
    assert_agrees("embedding", ids, np.random.default_rng(0).standard_normal((6, 70)))


def test_the_order_of_additions_is_the_order_of_positions() -> None:
    """One thread sums what stands at 32 neighbouring positions: 1 is lost if it is added to 2²⁴, but not if 2²⁴ - 2²⁴ comes first."""
    ids = to_device(np.zeros(17, np.int64), "cuda")
    weight = Tensor(to_device(np.zeros((1, 1), np.float32), "cuda"), requires_grad=True)
    big = 2.0**24
    for values, expected in [((big, 1, -big), 0), ((big, -big, 1), 1)]:
        dy = np.zeros((17, 1), np.float32)
        dy[::8, 0] = values
        (g,) = tinylm.grad(tinylm.embedding(ids, weight), [weight], to_device(dy, "cuda"))
        assert g.numpy().item() == expected


@pytest.mark.parametrize("bad", [4, -1])
def test_an_id_out_of_range_stays_within_the_arrays_and_is_reported(bad: int) -> None:
    weight = Tensor(to_device(np.ones((4, 3), np.float32), "cuda"), requires_grad=True)
    y = tinylm.embedding(to_device(np.array([1, bad]), "cuda"), weight)
    y.backward(to_device(np.ones((2, 3), np.float32), "cuda"))
    assert launches["embedding", "cuda"] == 1
    with pytest.raises(RangeError, match=f"token id {bad} is out of range: expected 0 to 3"):
        y.numpy()
    np.testing.assert_array_equal(y.numpy(), [[1] * 3, [np.nan] * 3])
    np.testing.assert_array_equal(weight.grad.get(), [[0] * 3, [1] * 3, [0] * 3, [0] * 3])
