"""Linear layers and embeddings that read weights as their file has them, against the gguf library's decoding and the float32 product."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from stored_helpers import assert_joint_product, assert_product, of_bytes, stored

import tinylm
from tinylm import Tensor
from tinylm.bindings.cpu.library import FORMATS, Library
from tinylm.engine.kernels import launches, using
from tinylm.errors import ConfigError

pytestmark = pytest.mark.usefixtures("cpu")

ROWS = [(1, 256), (37, 512), (100, 1280), (64, 768)]  # one row; k of one block, of one block more than a depth; whole panels
BATCHES = [1, 2, 3, 4, 5, 16, 17, 40]  # few rows, and more


@pytest.mark.parametrize("format", FORMATS)
def test_every_number_is_the_librarys(format: str) -> None:
    """To the last bit. The embedding decodes whole rows, in any order."""
    for rows, columns in ROWS:
        w = stored(format, rows, columns)
        ids = np.random.default_rng(0).integers(0, rows, (3, 5))
        before = launches["embedding", "cpu"]
        np.testing.assert_array_equal(tinylm.embedding(ids, Tensor(w)).data, w.decoded()[ids])
        assert launches["embedding", "cpu"] == before + 1
        np.testing.assert_array_equal(w[ids], w.decoded()[ids])


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("format", FORMATS)
def test_products(cpu: Library, format: str, threads: int) -> None:
    cpu.functions["pool_size"](threads)
    rng = np.random.default_rng(0)
    for rows, columns in ROWS:
        for batch in BATCHES if threads == 1 else (1, 40):
            assert_product(stored(format, rows, columns), batch, rng)


@pytest.mark.parametrize("format", FORMATS)
def test_a_product_is_to_the_last_bit_that_of_the_decoded_weight(format: str) -> None:
    """So a text is the same with float32 weights."""
    w, rng = stored(format, 70, 512), np.random.default_rng(1)
    for batch in BATCHES:
        x = rng.standard_normal((batch, 512)).astype(np.float32)
        np.testing.assert_array_equal(tinylm.linear(x, w).data, tinylm.linear(x, w.decoded()).data)


@pytest.mark.parametrize("format", FORMATS)
def test_rounded_products(format: str) -> None:
    w, rng = stored(format, 70, 512), np.random.default_rng(2)
    for batch in (1, 4, 40):
        assert_product(w, batch, rng, rounded=True)


@pytest.mark.parametrize("format", ["F16", "BF16"])
@pytest.mark.parametrize("columns", [1, 31, 33, 500])
def test_numbers_of_16_bits_in_rows_of_any_length(format: str, columns: int) -> None:
    for batch in (1, 3, 40):
        assert_product(stored(format, 9, columns), batch, np.random.default_rng(3))


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in ("F16", "BF16")])
def test_scales_that_are_not_finite_go_through(format: str) -> None:
    def scales(rng: Any, shape: Any) -> np.ndarray:
        return rng.choice([np.nan, np.inf, -np.inf, 6e-8, 65504.0, -0.0], shape)

    w = stored(format, 20, 512, scales)
    with np.errstate(invalid="ignore", over="ignore"):
        expected = w.decoded()
    np.testing.assert_array_equal(tinylm.embedding(np.arange(20), w).data, expected)


def test_halves_of_every_kind() -> None:
    """All 65,536 numbers of each 16-bit format."""
    raw = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(64, -1)
    for format, true in (("F16", raw.view(np.float16).astype(np.float32)), ("BF16", None)):
        w = of_bytes(format, raw, 1024)
        with np.errstate(invalid="ignore"):
            expected = w.decoded() if true is None else true
        np.testing.assert_array_equal(tinylm.embedding(np.arange(64), w).data, expected)


@pytest.mark.parametrize("op", ["swiglu_linear", "rotary_heads"])
def test_layers_of_one_input_in_several_formats(op: str) -> None:
    for rows in (1, 5, 40):
        assert_joint_product(op, rows)


# ---------------------------------------------------------------- everywhere else it is a float32 matrix


def test_other_ops_and_the_reference_see_the_decoded_matrix() -> None:
    w = stored("Q4_1", 6, 64)
    d, x = w.decoded(), np.random.default_rng(5).standard_normal((3, 64)).astype(np.float32)
    assert (w.shape, w.ndim, w.size, w.dtype, w.nbytes) == ((6, 64), 2, 384, np.float32, 6 * 40)
    tensor = Tensor(w)
    assert tensor.data is w
    assert tensor.device == "cpu"
    with using("reference"):
        reference = tinylm.linear(x, tensor).data
    np.testing.assert_array_equal(reference, x @ d.T)
    for found, expected in [
        (tensor * 2, d * 2), (tensor[1:3], d[1:3]), (tensor.T, d.T), (tinylm.matmul(x, tensor.T), x @ d.T), (tensor.sum(), d.sum()),
        (tensor.numpy(), d), (w + x[0], d + x[0]), (x[0] - w, x[0] - d), (np.isfinite(w), np.isfinite(d)), (w.mean(axis=0), d.mean(axis=0)),
        (w[2], d[2]), (w[:, 3], d[:, 3]), (w.copy(), d), (tensor.detach(), d), (np.stack([w, w]), np.stack([d, d])),
    ]:  # fmt: skip
        np.testing.assert_allclose(np.asarray(getattr(found, "data", found)), expected, rtol=1e-5, atol=1e-6)
    assert not w.decoded().flags.writeable
    assert w.copy().flags.writeable


def test_second_derivatives_go_through_the_decoded_matrix() -> None:
    w, rng = stored("Q8_0", 5, 32), np.random.default_rng(6)
    values, v = rng.standard_normal((2, 2, 32)).astype(np.float32)
    found = [
        tinylm.hvp(lambda x, m=m: (tinylm.linear(x, Tensor(m), frozen=True) ** 2).sum(), Tensor(values), Tensor(v))
        for m in (w, w.decoded())
    ]
    np.testing.assert_allclose(*(np.asarray(each.data) for each in found), rtol=1e-5)


def test_it_can_only_be_read() -> None:
    w = stored("Q4_0", 4, 32)
    parameter = tinylm.nn.Parameter(w)
    with pytest.raises(ConfigError, match=r"of shape \(4, 32\) are kept as their file has them, Q4_0, and only read: load .*float32"):
        w[0] = 1
    with pytest.raises(ConfigError, match="only read"):
        w -= 1
    with pytest.raises(ConfigError, match=r"parameter head.weight of shape \(4, 32\) is kept as its file has it, Q4_0: load .*adapters"):
        tinylm.optim.SGD([("head.weight", parameter)], lr=0.1)
    assert parameter.data is w


def test_a_copy_reads_its_own_bytes() -> None:
    """Deep or through pickle: a kernel that was given the address of the original would read whatever lies there later."""
    w = stored("Q8_0", 64, 64)
    x = np.random.default_rng(7).standard_normal((2, 64)).astype(np.float32)
    expected = tinylm.linear(x, w).data
    copies = [copy.deepcopy(w), pickle.loads(pickle.dumps(w)), copy.copy(w)]
    for each in copies[:2]:
        assert not np.shares_memory(each.raw, w.raw)
    for each in copies:
        assert each._as_parameter_ == each.raw.ctypes.data
    w.raw[...] = 255  # NaN
    for each in copies[:2]:
        np.testing.assert_array_equal(tinylm.linear(x, each).data, expected)


# ---------------------------------------------------------------- what a wrong kernel would do


@pytest.mark.parametrize(
    ("format", "byte", "into"),
    [("Q4_1", 4, "swap"), ("Q4_0", 2, "swap"), ("Q4_1", 2, "zero"), ("Q4_K", 8, "zero"), ("Q6_K", 192, "swap"), ("Q8_0", 1, "zero")],
)
def test_the_comparison_notices_wrong_bytes(format: str, byte: int, into: str) -> None:
    """A swap of the halves of one byte, a scale or a minimum that is zero: a kernel that took them so would fail."""
    w = stored(format, 8, 256)
    wrong = w.raw.copy()
    wrong[3, byte] = 0 if into == "zero" else wrong[3, byte] >> 4 | wrong[3, byte] << 4 & 255
    x = np.random.default_rng(7).standard_normal((1, 256)).astype(np.float32)
    found = tinylm.linear(x, of_bytes(format, wrong, 256)).data
    true = x.astype(np.float64) @ w.decoded().T
    assert np.linalg.norm(found - true) > 1e-5 * np.linalg.norm(true)
