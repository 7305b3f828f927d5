"""nn.Transformer compared with torch.nn.Transformer."""

import inspect

import numpy as np
import pytest
import torch
from helpers import assert_parity, randomise

from tinylm import Tensor, nn
from tinylm.errors import ConfigError, ShapeError

pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # PyTorch about a fast path of its own
SIZES = {"d_model": 8, "nhead": 2, "num_encoder_layers": 2, "num_decoder_layers": 1, "dim_feedforward": 12, "dropout": 0.0}
later = np.where(np.tri(5, dtype=bool), 0.0, -np.inf)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("options", [{}, {"norm_first": True, "bias": False, "activation": "gelu", "layer_norm_eps": 1e-3}])
def test_equals_pytorch(options, batch_first, dtype):
    rng = np.random.default_rng(0)
    theirs = torch.nn.Transformer(**SIZES, **options, batch_first=batch_first)
    randomise(theirs, rng)
    ours = nn.Transformer(**SIZES, **options, batch_first=batch_first)
    src, tgt = (rng.standard_normal((3, n, 8) if batch_first else (n, 3, 8)) for n in (4, 5))
    padding = np.arange(4) >= np.array([[4], [2], [3]])
    masks = {
        "src_mask": np.triu(np.full((4, 4), -np.inf), 1), "tgt_mask": later, "memory_mask": rng.standard_normal((5, 4)),
        "src_key_padding_mask": np.where(padding, -np.inf, 0.0), "memory_key_padding_mask": np.where(padding, -np.inf, 0.0),
        "tgt_key_padding_mask": np.zeros((3, 5)),
    }  # fmt: skip
    assert_parity(ours, theirs, [src, tgt], masks=masks, dtype=dtype)
    assert_parity(ours, theirs, [src, tgt], dtype=dtype)


def test_one_pair_without_a_batch_equals_pytorch():
    rng = np.random.default_rng(1)
    theirs = torch.nn.Transformer(**SIZES)
    randomise(theirs, rng)
    masks = {"tgt_mask": later, "src_key_padding_mask": np.array([0.0, 0.0, 0.0, -np.inf])}
    assert_parity(nn.Transformer(**SIZES), theirs, [rng.standard_normal((4, 8)), rng.standard_normal((5, 8))], masks=masks)


def test_arguments_and_parameters_are_pytorchs():
    for method in ("__init__", "forward"):
        ours = list(inspect.signature(getattr(nn.Transformer, method)).parameters.values())
        theirs = list(inspect.signature(getattr(torch.nn.Transformer, method)).parameters.values())[: len(ours)]
        assert [p.name for p in ours] == [p.name for p in theirs]
        same = [p.name for p, q in zip(ours, theirs, strict=True) if p.default == q.default]
        assert {p.name for p in ours} - set(same) <= {"activation", "src_is_causal", "tgt_is_causal"}  # a name; None stands for False
    ours, theirs = nn.Transformer(16, 2, 1, 1, 20), torch.nn.Transformer(16, 2, 1, 1, 20)
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [(k, tuple(v.shape)) for k, v in theirs.state_dict().items()]


def test_matrices_start_as_glorot_and_bengio_say():
    model = nn.Transformer(32, 2, 1, 1, 64)
    for name, p in model.named_parameters():
        if p.ndim == 2:
            bound = (6 / sum(p.shape)) ** 0.5
            assert 0.95 * bound < np.abs(p.data).max() <= bound, name
            assert p.data.std() == pytest.approx(bound / 3**0.5, rel=0.06), name
    assert not model.encoder.layers[0].self_attn.in_proj_bias.data.any()


def test_the_square_subsequent_mask():
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    np.testing.assert_array_equal(mask.numpy(), torch.nn.Transformer.generate_square_subsequent_mask(4).numpy())
    assert mask.dtype == np.float32
    model, rng = nn.Transformer(**SIZES).to(dtype="float64"), np.random.default_rng(2)
    src, tgt = Tensor(rng.standard_normal((4, 2, 8))), Tensor(rng.standard_normal((4, 2, 8)))
    expected = model(src, tgt, tgt_mask=mask).numpy()
    np.testing.assert_allclose(model(src, tgt, tgt_is_causal=True).numpy(), expected, atol=1e-12)
    assert not np.allclose(model(src, tgt).numpy(), expected)


class Doubling(nn.Module):
    def forward(self, src, mask=None, src_key_padding_mask=None, is_causal=False):
        return src * 2


def test_a_custom_encoder_takes_the_encoders_place():
    model = nn.Transformer(**SIZES, custom_encoder=Doubling()).to(dtype="float64")
    assert all(name.startswith("decoder.") for name in model.state_dict())
    rng = np.random.default_rng(3)
    src, tgt = Tensor(rng.standard_normal((4, 2, 8))), Tensor(rng.standard_normal((5, 2, 8)))
    np.testing.assert_array_equal(model(src, tgt).numpy(), model.decoder(tgt, src * 2).numpy())


@pytest.mark.parametrize(
    ("src", "tgt", "message"),
    [
        ((4, 2, 7), (5, 2, 8), r"src has shape \(4, 2, 7\), expected \(T, N, 8\), or \(T, 8\) for both"),
        ((4, 2, 8), (5, 8), r"tgt has shape \(5, 8\)"),
        ((4, 2, 8), (5, 3, 8), r"src \(4, 2, 8\) and tgt \(5, 3, 8\) differ in their batch, axis 1"),
    ],
)
def test_inputs_that_do_not_fit(src, tgt, message):
    with pytest.raises(ShapeError, match=message):
        nn.Transformer(**SIZES)(Tensor(np.zeros(src, np.float32)), Tensor(np.zeros(tgt, np.float32)))


def test_settings_that_do_not_fit():
    with pytest.raises(ConfigError, match="num_layers is -1: expected at least 0"):
        nn.Transformer(8, 2, -1)
