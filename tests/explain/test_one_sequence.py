"""Transformer layers written out for one sequence without a batch, for masks of each sequence and for other activations."""

import numpy as np
import pytest

from tinylm import Tensor, explain, nn, ops

DRAW = np.random.default_rng(0)
SRC, TGT = DRAW.standard_normal((6, 8)), DRAW.standard_normal((4, 8))
HIDDEN = np.array([False] * 5 + [True])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_transformer_without_a_batch(norm_first, batch_first):
    activation = nn.GELU("tanh") if norm_first else ops.tanh
    model = nn.Transformer(8, 2, 1, 1, 12, 0.0, activation, norm_first=norm_first, batch_first=batch_first).to(dtype=np.float64)
    src, tgt, axis = Tensor(SRC), Tensor(TGT), 0 if batch_first else 1
    masks = {"src_key_padding_mask": HIDDEN, "memory_key_padding_mask": HIDDEN, "src_mask": DRAW.standard_normal((2, 6, 6))}
    plain = model(src, tgt, tgt_is_causal=True, **masks).numpy()
    assert plain.shape == (4, 8)
    with explain.cache(model) as seen:
        np.testing.assert_allclose(model(src, tgt, tgt_is_causal=True, **masks).numpy(), plain, rtol=1e-9, atol=1e-12)
    alone = {name: value.numpy() for name, value in seen.items()}
    assert alone["encoder.h.0.attn.pattern"].shape == (1, 2, 6, 6)
    assert alone["decoder.h.0.cross.head_out"].shape == (1, 2, 4, 8)
    np.testing.assert_array_equal(alone["encoder.h.0.resid_pre"][0], SRC)
    hidden = activation(Tensor(alone["decoder.h.0.mlp.pre"])).numpy()
    np.testing.assert_allclose(alone["decoder.h.0.mlp.hidden"], hidden, rtol=1e-12)

    one = {**masks, **{name: mask[None] for name, mask in masks.items() if mask.ndim == 1}}  # the same as a batch of one
    with explain.cache(model) as seen:
        model(ops.expand_dims(src, axis), ops.expand_dims(tgt, axis), tgt_is_causal=True, **one)
    for name, value in seen.items():
        np.testing.assert_allclose(alone[name], value.numpy(), rtol=1e-10, atol=1e-13, err_msg=name)


def test_attention_to_itself_without_a_batch_and_with_masks_of_each_sequence():
    layer = nn.MultiheadAttention(8, 2).to(dtype=np.float64)
    x = Tensor(SRC)
    plain, weights = layer(x, x, x, key_padding_mask=HIDDEN, average_attn_weights=False)
    with explain.cache(layer) as seen:
        y, averaged = layer(x, x, x, key_padding_mask=HIDDEN)
    np.testing.assert_allclose(y.numpy(), plain.numpy(), rtol=1e-10)
    np.testing.assert_allclose(averaged.numpy(), weights.numpy().mean(0), rtol=1e-10)
    np.testing.assert_allclose(seen["pattern"].numpy()[0], weights.numpy(), rtol=1e-10)
    batch = Tensor(DRAW.standard_normal((6, 3, 8)))
    mask = DRAW.standard_normal((3, 6, 6))
    plain, _ = layer(batch, batch, batch, attn_mask=mask)
    with explain.cache(layer) as seen:
        np.testing.assert_allclose(layer(batch, batch, batch, attn_mask=mask)[0].numpy(), plain.numpy(), rtol=1e-9, atol=1e-12)
    shown = seen["scores"].numpy() + mask[:, None]
    np.testing.assert_allclose(seen["pattern"].numpy(), np.exp(shown) / np.exp(shown).sum(-1, keepdims=True), rtol=1e-10)
