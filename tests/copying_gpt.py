"""A two-layer GPT that copies, with weights set by hand: what each of its heads does is known exactly."""

import numpy as np

from tinylm.models import GPT, GPTConfig

VOCABULARY, CONTEXT, WIDTH = 24, 16, 64  # width of the stream: a token, a position, the token before
PREVIOUS, FIRST, INDUCTION, SAME = (0, 0), (0, 1), (1, 0), (1, 1)  # (layer, head)
_HEAD = WIDTH // 2
_SHARP = 60.0  # a score that decides a softmax
_TOKEN = np.arange(VOCABULARY)
_POSITION = VOCABULARY + np.arange(CONTEXT)
_BEFORE = VOCABULARY + CONTEXT + np.arange(VOCABULARY)


def copying_gpt(dtype=np.float64):
    """Returns the model, whose feed-forwards are zero.

    Layer 0: head 0 looks at the token before, and writes it beside the token; head 1 looks at the first token, and writes nothing.
    Layer 1: head 0 looks where the token before equals the present token, so at what followed it, and raises that token's logit;
    head 1 looks at all equal tokens, the present one among them, and writes nothing.
    """
    model = GPT(GPTConfig(VOCABULARY, CONTEXT, n_layer=2, n_head=2, n_embd=WIDTH)).to(dtype=dtype).eval()
    for block in model.blocks():
        for parameter in block.parameters():
            if parameter.ndim == 2:
                parameter.data[...] = 0
    model.transformer.wte.weight.data[...] = np.eye(WIDTH)[_TOKEN]
    model.transformer.wpe.weight.data[...] = np.eye(WIDTH)[_POSITION]
    scale = np.sqrt(_SHARP * np.sqrt(_HEAD))
    rows = np.arange(CONTEXT)
    q, k, v, out = _parts(model, PREVIOUS)
    q[rows[:-1], _POSITION[1:]] = k[rows, _POSITION] = scale
    v[_TOKEN, _TOKEN] = out[_BEFORE, _TOKEN] = 1
    q, k, _, _ = _parts(model, FIRST)
    q[0, _POSITION] = k[0, _POSITION[0]] = scale
    q, k, v, out = _parts(model, INDUCTION)
    q[_TOKEN, _TOKEN] = k[_TOKEN, _BEFORE] = scale
    q[VOCABULARY, _POSITION] = scale
    k[VOCABULARY, _POSITION[0]] = -scale  # before the first token there is none
    v[_TOKEN, _TOKEN] = 1
    out[_TOKEN, _TOKEN] = 8
    q, k, _, _ = _parts(model, SAME)
    q[_TOKEN, _TOKEN] = k[_TOKEN, _TOKEN] = scale
    return model


def _parts(model, which):
    """Returns views of one head's weights: W_Q, W_K, W_V (width of the head, width of the stream), W_O (stream, head)."""
    layer, head = which
    attention = model.blocks()[layer].attn
    stacked = attention.c_attn.weight.data.reshape(3, 2, _HEAD, WIDTH)[:, head]
    return (*stacked, attention.c_proj.weight.data[:, head * _HEAD : (head + 1) * _HEAD])
