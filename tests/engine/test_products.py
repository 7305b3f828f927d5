"""`products`: the rounding itself, bit for bit as PyTorch's, and where it holds."""

import threading

import numpy as np
import pytest
import torch

import tinylm
from tinylm.engine.kernels import using
from tinylm.engine.products import matmul_now, products_mode, to_bfloat16
from tinylm.engine.recompute import recompute
from tinylm.errors import ConfigError


def bits(x: np.ndarray) -> np.ndarray:
    return x.view(np.uint32)


def by_torch(x: np.ndarray) -> np.ndarray:
    return torch.from_numpy(x).bfloat16().float().numpy()


def test_rounding_is_pytorchs_bit_for_bit() -> None:
    """Over every upper half of a float32, with lower halves around the middle and at the ends: ties, denormals, carries into
    the exponent, the largest numbers, infinities and NaN."""
    upper = np.arange(2**16, dtype=np.uint32) << 16
    for lower in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF):
        x = (upper | np.uint32(lower)).view(np.float32)
        found, expected = to_bfloat16(x), by_torch(x)
        number = ~np.isnan(x)
        np.testing.assert_array_equal(bits(found)[number], bits(expected)[number])
        assert np.isnan(found[~number]).all()
        assert not (bits(found) & 0xFFFF).any()  # NaN, too, is a bfloat16
    assert np.isinf(to_bfloat16(np.array([3.3961776e38], np.float32)))
    assert to_bfloat16(np.array([3.3895314e38], np.float32)) == np.float32(3.3895314e38)


def test_rounding_leaves_its_argument_and_other_dtypes() -> None:
    x = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    for view in (x, x.T, x[::2, ::-1], x[0, 0:1].reshape(()), x[:0]):
        before = view.copy()
        found = to_bfloat16(view)
        assert found.shape == view.shape
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, by_torch(np.ascontiguousarray(view)).reshape(view.shape))
        np.testing.assert_array_equal(view, before)
    for dtype in (np.float64, np.float16, np.int64):
        other = x.astype(dtype)
        assert to_bfloat16(other) is other


@pytest.mark.parametrize("wrong", [0x0000, 0x8000], ids=["cut off", "halves away from zero"])
def test_another_rounding_differs_on_these_numbers(wrong: int) -> None:
    x = (np.arange(2**16, dtype=np.uint32) << 16 | np.uint32(0x8000)).view(np.float32)
    number = np.isfinite(x)
    other = (bits(x) + np.uint32(wrong)) & np.uint32(0xFFFF0000)
    assert (bits(to_bfloat16(x))[number] != other[number]).any()


# ---------------------------------------------------------------- where it holds


def test_it_ends_with_its_block_and_nests() -> None:
    assert not products_mode.rounded
    with tinylm.products("bfloat16"):
        assert products_mode.rounded
        with tinylm.products("float32"):
            assert not products_mode.rounded
        assert products_mode.rounded
        with pytest.raises(ZeroDivisionError), tinylm.products("float32"):
            raise ZeroDivisionError
        assert products_mode.rounded
    assert not products_mode.rounded
    with pytest.raises(ConfigError, match="products of precision 'float16': expected one of float32, bfloat16"), tinylm.products("float16"):
        pass


def test_each_thread_has_its_own() -> None:
    seen: list[bool] = []
    with tinylm.products("bfloat16"):
        thread = threading.Thread(target=lambda: seen.append(products_mode.rounded))
        thread.start()
        thread.join()
    assert seen == [False]


def operands() -> tuple[tinylm.Tensor, tinylm.Tensor, np.ndarray]:
    rng = np.random.default_rng(1)
    a, b, dy = (rng.standard_normal(shape).astype(np.float32) for shape in ((3, 40), (40, 5), (3, 5)))
    return tinylm.Tensor(a, requires_grad=True), tinylm.Tensor(b, requires_grad=True), dy


def exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(to_bfloat16(a).astype(np.float64) @ to_bfloat16(b), np.float32)


@pytest.mark.parametrize("implementation", ["reference", "auto"])
def test_a_backward_pass_has_the_precision_of_its_forward_pass(implementation: str) -> None:
    """Not that of the block in which it runs."""
    a, b, dy = operands()
    with using(implementation):
        with tinylm.products("bfloat16"):
            y = a @ b
        y.backward(dy)
        np.testing.assert_allclose(y.data, exact(a.data, b.data), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(a.grad, exact(dy, b.data.T), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(b.grad, exact(a.data.T, dy), rtol=1e-5, atol=1e-5)
        plain = a @ b
        a.grad = b.grad = None
        with tinylm.products("bfloat16"):
            plain.backward(dy)
        np.testing.assert_allclose(a.grad, dy @ b.data.T, rtol=1e-5, atol=1e-5)
        assert np.abs(a.grad - exact(dy, b.data.T)).max() > 1e-3


def test_a_second_derivative_has_the_precision_of_its_forward_pass() -> None:
    """With L = dyᵀ (r(a) r(b)): dL/da = r(dy) r(b)ᵀ, whose derivative in dy along v is r(v) r(b). Both walks are outside of the block."""
    a, b, dy = operands()
    v = np.random.default_rng(2).standard_normal(a.shape).astype(np.float32)
    cotangent = tinylm.Tensor(dy, requires_grad=True)
    with tinylm.products("bfloat16"):
        y = a @ b
    da = tinylm.grad(y, a, cotangent, create_graph=True)
    np.testing.assert_allclose(da.data, exact(dy, b.data.T), rtol=1e-5, atol=1e-5)
    found = tinylm.grad(da, cotangent, v)
    np.testing.assert_allclose(found.data, exact(v, b.data), rtol=1e-5, atol=1e-5)
    assert np.abs(found.data - v @ b.data).max() > 1e-3
    plain = a @ b
    with tinylm.products("bfloat16"):
        found = tinylm.grad(tinylm.grad(plain, a, cotangent, create_graph=True), cotangent, v)
    np.testing.assert_allclose(found.data, v @ b.data, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_a_composed_twin_has_the_precision_of_its_forward_pass(kind: str) -> None:
    rng = np.random.default_rng(3)
    gates = {"rnn": 1, "lstm": 4, "gru": 3}[kind]
    x, w_ih, w_hh = (
        tinylm.Tensor(rng.standard_normal(s).astype(np.float32), requires_grad=True) for s in ((3, 2, 9), (gates * 6, 9), (gates * 6, 6))
    )
    layer = getattr(tinylm, kind)
    dy = rng.standard_normal((3, 2, 6)).astype(np.float32)
    with tinylm.products("bfloat16"):
        y = layer(x, w_ih, w_hh)[0]
    fused = tinylm.grad(y, [x, w_ih, w_hh], dy, retain_graph=True)
    twin = tinylm.grad(y, [x, w_ih, w_hh], dy, create_graph=True)
    plain = tinylm.grad(layer(x, w_ih, w_hh)[0], [x, w_ih, w_hh], dy)
    for one, other, unrounded in zip(fused, twin, plain, strict=True):
        scale = np.linalg.norm(one.data)
        assert np.linalg.norm(one.data - other.data) <= 1e-4 * scale
        assert np.linalg.norm(one.data - unrounded.data) > 5e-4 * scale


@pytest.mark.parametrize("inside", [True, False], ids=["rounded", "not rounded"])
def test_recomputing_has_the_precision_of_the_forward_pass(inside: bool) -> None:
    a, b, dy = operands()

    def f(x: tinylm.Tensor) -> tinylm.Tensor:
        return x @ b

    with tinylm.products("bfloat16" if inside else "float32"):
        kept, again = f(a), recompute(f, a)
    expected = tinylm.grad(kept, a, dy)
    with tinylm.products("float32" if inside else "bfloat16"):
        found = tinylm.grad(again, a, dy)
    np.testing.assert_array_equal(again.data, kept.data)
    np.testing.assert_array_equal(found.data, expected.data)


def test_matmul_for_a_body_keeps_its_precision() -> None:
    a, b, _ = operands()
    x, y = a.data, b.data
    with tinylm.products("bfloat16"):
        on_arrays, on_tensors = matmul_now(tinylm.engine.arrays.array_module(x)), matmul_now(tinylm.ops)
    np.testing.assert_allclose(on_arrays(x, y), exact(x, y), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(on_tensors(a, b).data, exact(x, y), rtol=1e-5, atol=1e-5)
    out = np.empty((3, 5), np.float32)
    assert on_arrays(x, y, out=out) is out


def test_a_product_of_float32_and_float64_is_not_rounded() -> None:
    """It is one of float64, whose gradients are exact, too."""
    a, b, dy = operands()
    wide = tinylm.Tensor(b.data.astype(np.float64), requires_grad=True)
    with tinylm.products("bfloat16"):
        y = a @ wide
        np.testing.assert_array_equal(tinylm.einsum("ij,jk->ik", a, wide).data, y.data)
    np.testing.assert_array_equal(y.data, a.data @ wide.data)
    y.backward(dy.astype(np.float64))
    np.testing.assert_allclose(wide.grad, a.data.T @ dy.astype(np.float64), rtol=1e-10)


def test_gradcheck_checks_float64_and_so_the_exact_derivative() -> None:
    """Also within the block, in which float32 products are rounded."""
    a, b, _ = operands()
    x, y = a.data.astype(np.float64), b.data.astype(np.float64)
    with tinylm.products("bfloat16"):
        report = tinylm.verify.gradcheck(tinylm.matmul, x, y)
        assert report.ok
        assert 'checked in float64, whose products products("bfloat16") does not round' in str(report)
        with pytest.raises(ConfigError, match="taped_in 'float32' within products"):
            tinylm.verify.gradcheck(tinylm.matmul, x, y, taped_in="float32")
        assert tinylm.verify.gradcheck(tinylm.matmul, x[:1, :4], y[:4], order=2).ok
    assert not tinylm.verify.gradcheck(tinylm.matmul, x, y).remarks


def test_merged_adapters_are_exact() -> None:
    """A weight is no operand of a product yet."""
    from tinylm.nn.lora import LowRankLinear

    layer = LowRankLinear(tinylm.nn.Linear(5, 4), 2, 1.0)
    layer.lora_B.data[...] = np.random.default_rng(0).standard_normal(layer.lora_B.shape)
    expected = layer.merged().weight.data
    with tinylm.products("bfloat16"):
        np.testing.assert_array_equal(layer.merged().weight.data, expected)
