"""Recurrent layers of tinylm and of PyTorch, with the same inputs and the results in the same order."""

import numpy as np
import pytest
import torch
from helpers import randomise
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tinylm import nn

KINDS = ["RNN", "LSTM", "GRU"]
kinds = pytest.mark.parametrize("kind", KINDS)


def make_pair(kind, *args, **kwargs):
    """Returns (ours, theirs) with random parameters, also those that are small at first."""
    theirs = getattr(torch.nn, kind)(*args, **kwargs)
    randomise(theirs, np.random.default_rng(0))
    return getattr(nn, kind)(*args, **kwargs), theirs


def make_inputs(rng, kind, x_shape, state_shape):
    """Returns [x], or [x, h] or [x, h, c] with a state shape."""
    states = 0 if state_shape is None else 2 if kind.startswith("LSTM") else 1
    return [rng.standard_normal(x_shape)] + [rng.standard_normal(state_shape) for _ in range(states)]


def flat_call(lengths=None, batch_first=False, steps=0):
    """Returns a function that calls module(x, states) and gives its results in one tuple; with lengths, PyTorch's side packs."""

    def call(module, x, *states):
        hx = None if not states else states[0] if len(states) == 1 else states
        if isinstance(module, nn.Module):
            result = module(x, hx) if lengths is None else module(x, hx, lengths=lengths)
        elif lengths is None:
            result = module(x, hx)
        else:
            packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=False)
            y, last = module(packed, hx)
            result = pad_packed_sequence(y, batch_first, total_length=steps)[0], last
        if not isinstance(result, tuple):
            return result
        head, last = result
        return (head, *last) if isinstance(last, tuple) else (head, last)

    return call
