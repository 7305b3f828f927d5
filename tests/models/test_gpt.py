"""GPT compared with the same model in PyTorch: gradients, training runs, the mask."""

import itertools
from collections.abc import Iterable

import numpy as np
import pytest
import torch

import tinylm
from tinylm.data import CharTokenizer, ShuffledBlocks, load_text
from tinylm.engine.tensor import Tensor
from tinylm.errors import ConfigError, RangeError, ShapeError
from tinylm.models import GPT, GPTConfig
from tinylm.optim import AdamW
from tinylm.verify.torch.models import TorchGPT

SMALL = GPTConfig(vocab_size=17, block_size=12, n_layer=2, n_head=2, n_embd=16)


def pair(config: GPTConfig, dtype: str) -> tuple[GPT, TorchGPT]:
    """Returns the two models with the same weights, drawn by PyTorch and scaled to be far from zero."""
    torch.manual_seed(0)
    theirs = TorchGPT(config).to(getattr(torch, dtype))
    ours = GPT(config)
    ours.to(dtype=dtype)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def batches(config: GPTConfig, n: int, batch: int = 4) -> np.ndarray:
    return np.random.default_rng(1).integers(0, config.vocab_size, (n, batch, config.block_size + 1))


def torch_loss(model: TorchGPT, rows: np.ndarray) -> torch.Tensor:
    logits = model(torch.tensor(rows[:, :-1]))
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), torch.tensor(rows[:, 1:]).reshape(-1))


@pytest.mark.parametrize("bias", [False, True])
def test_every_gradient_equals_pytorchs(bias: bool) -> None:
    config = GPTConfig(vocab_size=17, block_size=12, n_layer=2, n_head=2, n_embd=16, bias=bias)
    ours, theirs = pair(config, "float64")
    (rows,) = batches(config, 1)
    logits = ours(Tensor(rows[:, :-1]))
    loss = tinylm.cross_entropy(logits, rows[:, 1:])
    loss.backward()
    expected = torch_loss(theirs, rows)
    expected.backward()
    assert abs(loss.item() - expected.item()) < 1e-12
    gradients = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    total = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    found = dict(ours.named_parameters())
    assert set(found) == set(gradients)
    for name, want in gradients.items():
        assert np.linalg.norm(found[name].grad - want) <= 1e-10 * max(np.linalg.norm(want), 1e-3 * total), name


RUNS = [("float64", 50, 1e-9), ("float32", 200, 2e-3)]


@pytest.mark.parametrize(("dtype", "steps", "tolerance"), RUNS)
def test_training_gives_pytorchs_losses(dtype: str, steps: int, tolerance: float) -> None:
    assert largest_loss_difference(SMALL, batches(SMALL, steps), dtype) <= tolerance


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "steps", "tolerance"), RUNS)
def test_training_the_default_model_on_text_gives_pytorchs_losses(dtype: str, steps: int, tolerance: float) -> None:
    text = load_text("tinyshakespeare")
    blocks = ShuffledBlocks(CharTokenizer(text).encode(text), 64, 12, seed=0)
    rows = [np.concatenate([x, y[:, -1:]], axis=1) for x, y in (blocks[k] for k in range(steps))]
    assert largest_loss_difference(GPTConfig(), rows, dtype) <= tolerance


def largest_loss_difference(config: GPTConfig, batches: Iterable[np.ndarray], dtype: str) -> float:
    """Trains both models from the same weights on the same batches, and returns the largest difference of their losses."""
    ours, theirs = pair(config, dtype)
    settings = {"lr": 1e-3, "betas": (0.9, 0.99)}

    def groups(parameters):
        parameters = list(parameters)
        return [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": 0.1},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]

    optimizer = AdamW(groups(ours.parameters()), **settings)
    reference = torch.optim.AdamW(groups(theirs.parameters()), **settings)
    worst = 0.0
    for rows in batches:
        loss = tinylm.cross_entropy(ours(Tensor(rows[:, :-1])), rows[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step(max_norm=1.0)
        expected = torch_loss(theirs, rows)
        reference.zero_grad()
        expected.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        reference.step()
        worst = max(worst, abs(loss.item() - expected.item()))
    return worst


def test_the_default_is_nanogpts_cpu_setting() -> None:
    assert GPT(GPTConfig()).num_parameters() == 65 * 128 + 64 * 128 + 4 * (2 * 128 + 12 * 128 * 128) + 128


def test_the_future_changes_no_past_logit() -> None:
    model = GPT(SMALL)
    ids = np.random.default_rng(0).integers(0, 17, (2, 12))
    with tinylm.no_grad():
        before = model(Tensor(ids)).data
        for t in range(1, 12):
            changed = ids.copy()
            changed[:, t:] = (changed[:, t:] + 1) % 17
            after = model(Tensor(changed)).data
            np.testing.assert_array_equal(after[:, :t], before[:, :t])
            assert not np.array_equal(after[:, t], before[:, t])


def test_all_sequences_of_length_3_have_probability_1() -> None:
    model = GPT(GPTConfig(vocab_size=5, block_size=4, n_layer=2, n_head=2, n_embd=8))
    model.to(dtype="float64")
    rows = np.array([(0, *s) for s in itertools.product(range(5), repeat=3)])
    with tinylm.no_grad():
        log_p = tinylm.log_softmax(model(Tensor(rows[:, :-1]))).data
    each = np.take_along_axis(log_p, rows[:, 1:, None], axis=2)[..., 0].sum(axis=1)
    assert abs(np.exp(each).sum() - 1) < 1e-9


def test_dropout_acts_in_training_only_and_repeats_with_the_seed() -> None:
    model = GPT(GPTConfig(vocab_size=17, block_size=12, n_layer=2, n_head=2, n_embd=16, dropout=0.5))
    ids = Tensor(np.zeros((1, 5), np.int64))
    tinylm.manual_seed(1)
    first = model(ids).data
    assert not np.array_equal(model(ids).data, first)
    tinylm.manual_seed(1)
    np.testing.assert_array_equal(model(ids).data, first)
    model.eval()
    np.testing.assert_array_equal(model(ids).data, model(ids).data)


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match=r"130 is not divisible by n_head 4"):
        GPTConfig(n_embd=130)
    with pytest.raises(ConfigError, match="n_layer is 0"):
        GPTConfig(n_layer=0)
    model = GPT(SMALL)
    with pytest.raises(ShapeError, match=r"\(1, 13\).*block_size of 12"):
        model(Tensor(np.zeros((1, 13), np.int64)))
    with pytest.raises(RangeError, match="token id 17 is out of range: expected 0 to 16"):
        model(Tensor(np.full((1, 3), 17)))
    with pytest.raises(RangeError, match="-1"):
        model(Tensor(np.full((1, 3), -1)))
