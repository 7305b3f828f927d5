"""Ensemble compared with PyTorch: the mean of probabilities, the training loss, every gradient, carried states."""

import numpy as np
import pytest
import torch
from helpers import assert_close, load_twin, randomise

from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError
from tinylm.models import GPT, Ensemble, GPTConfig, RNNModel, TransformerModel

RNG = np.random.default_rng(0)
IDS, TARGETS = RNG.integers(0, 7, (2, 3, 5))


def gru() -> RNNModel:
    return RNNModel("gru", 7, 4, 6, 2, dropout=0.0)


class TorchMember(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.rnn, self.decoder = torch.nn.Embedding(7, 4), torch.nn.GRU(4, 6, 2), torch.nn.Linear(6, 7)

    def forward(self, ids):
        return self.decoder(self.rnn(self.encoder(ids.T))[0]).transpose(0, 1)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-5)])
def test_against_pytorch(dtype: str, tolerance: float) -> None:
    """The training loss, with every parameter's gradient, and the logarithm of the mean probability."""
    model, twin = Ensemble([gru() for _ in range(3)]), torch.nn.Module()
    twin.members = torch.nn.ModuleList(TorchMember() for _ in range(3))
    randomise(twin, np.random.default_rng(1))
    load_twin(model, twin, dtype)
    loss, _ = model.loss(Tensor(IDS), Tensor(TARGETS))
    loss.backward()
    logits = [member(torch.from_numpy(IDS)) for member in twin.members]
    targets = torch.from_numpy(TARGETS).reshape(-1)
    expected = torch.stack([torch.nn.functional.cross_entropy(z.reshape(-1, 7), targets) for z in logits]).mean()
    expected.backward()
    pairs = {"loss": (loss.data, expected.detach().numpy())}
    gradients = dict(model.named_parameters())
    pairs |= {name: (gradients[name].grad, p.grad.numpy()) for name, p in twin.named_parameters()}
    assert len(pairs) == len(gradients) + 1
    mean = torch.stack([z.softmax(-1) for z in logits]).mean(0).log().detach().numpy()
    pairs["log p"] = model.eval().advance(Tensor(IDS))[0].data, mean
    assert_close(pairs, tolerance)


@pytest.mark.parametrize("make", [gru, lambda: GPT(GPTConfig(vocab_size=7, block_size=8, n_layer=2, n_head=2, n_embd=4))])
def test_going_on_from_a_state_is_as_one_pass(make) -> None:
    model = Ensemble([make(), make()]).eval()
    whole, _ = model.advance(Tensor(IDS))
    first, state = model.advance(Tensor(IDS[:, :2]))
    rest, _ = model.advance(Tensor(IDS[:, 2:]), state)
    np.testing.assert_allclose(np.concatenate([first.data, rest.data], axis=1), whole.data, rtol=1e-5, atol=1e-6)


def test_transformers_side_by_side() -> None:
    model = Ensemble([TransformerModel(7, 4, 2, 8, 1, 0.0) for _ in range(2)]).eval()
    logits, _ = model.advance(Tensor(IDS))
    assert logits.shape == (3, 5, 7)
    np.testing.assert_allclose(np.exp(logits.data).sum(-1), 1, rtol=1e-5)


def test_members_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match=r"members have \(vocab_size, block_size\) \[\(7, 0\), \(8, 0\)\]"):
        Ensemble([gru(), RNNModel("gru", 8, 4, 6, 2)])
    with pytest.raises(ConfigError, match=r"\[\]: expected one"):
        Ensemble([])
