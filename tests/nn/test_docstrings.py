"""help() of a layer says what it computes, and does not send the reader elsewhere."""

import inspect
import re

from tinylm import nn


def test_every_layer_says_what_it_computes() -> None:
    layers = [kind for _, kind in inspect.getmembers(nn, inspect.isclass) if issubclass(kind, nn.Module)]
    assert len(layers) > 20
    for kind in layers:
        text = inspect.getdoc(kind) or ""
        assert not re.search(r"see `?ops", text), f"{kind.__name__}: {text}"
    for kind in (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.Tanh, nn.Softplus, nn.Softmax, nn.LogSoftmax):
        assert (kind.__doc__ or "").startswith("y = "), kind.__name__
    assert all((kind.__doc__ or "").startswith("y = weight ") for kind in (nn.LayerNorm, nn.RMSNorm))
