"""Recurrent layers in one launch: how their blocks share out a card, and that results do not depend on it."""

from typing import Any

import numpy as np
import pytest
from cuda_on_cpu.emulator import LaunchError
from cuda_on_cpu.fixtures import has_gpu
from kernel_helpers import GATES, assert_agrees, recurrent_inputs
from op_cases import run

from tinylm.bindings.cuda import sequences
from tinylm.bindings.cuda.sequences import Card, Plan, plan
from tinylm.engine.devices import to_device
from tinylm.engine.products import products

T4, A100, H200 = Card(40, 64 * 1024, True), Card(108, 163 * 1024, True), Card(132, 227 * 1024, True)


@pytest.mark.parametrize(
    ("card", "batch", "hidden", "gates", "backward", "expected"),
    [
        # 2 of 200 units per block; W_hh 8 x 200 floats, 20 rows of 200 and 8 sums each
        (H200, 20, 200, 4, False, Plan(100, 256, 4 * (8 * 200 + 20 * 208), 2, 20)),
        # W_hh 2 x 800 floats, 20 rows of 800 and 2 sums each; one pair of units, five groups of four rows: five warps
        (H200, 20, 200, 4, True, Plan(100, 160, 4 * (2 * 800 + 20 * 802), 2, 20)),
        # 5 units per block: 65,536 bytes hold W_hh (16,000) and 15 rows of 805 floats (3,220 bytes each)
        (T4, 20, 200, 4, True, Plan(40, 256, 16_000 + 15 * 3_220, 5, 15)),
        (T4, 20, 200, 1, False, Plan(40, 256, 4 * (5 * 200 + 20 * 205), 5, 20)),
        (Card(3, 65_536, True), 1, 7, 3, False, Plan(3, 160, 4 * (9 * 7 + 16), 3, 1)),
        (Card(8, 65_536, True), 1, 1, 1, False, Plan(1, 32, 4 * 3, 1, 1)),
    ],
)
def test_plans(card: Card, batch: int, hidden: int, gates: int, backward: bool, expected: Plan) -> None:
    assert plan(card, batch, hidden, gates, backward) == expected


@pytest.mark.parametrize(
    ("card", "batch", "hidden", "gates"),
    [
        (H200._replace(cooperative=False), 20, 200, 4),
        (T4, 20, 650, 4),  # 17 units with 4 gates of 650 weights: 177 KB per block
        (T4, 20, 360, 4),  # W_hh 52 KB, and no room for four rows of the backward pass
        (A100, 20, 2000, 4),
        (H200, 2000, 200, 4),  # 100 blocks would read 160 MB per step
        (H200, 0, 200, 4),
        (H200, 20, 0, 4),
    ],
)
def test_what_is_launched_step_by_step(card: Card, batch: int, hidden: int, gates: int) -> None:
    assert plan(card, batch, hidden, gates, True) is None


def test_a_plan_fits() -> None:
    """No more blocks than multiprocessors, no more shared memory than a block may have, and every unit in one block."""
    rng, fitting = np.random.default_rng(0), 0
    for _ in range(3000):
        card = Card(int(rng.integers(1, 150)), int(rng.integers(1, 228)) * 1024, True)
        batch, hidden, gates, backward = (int(rng.integers(*limits)) for limits in ((1, 70), (1, 1100), (1, 5), (2,)))
        found = plan(card, batch, hidden, gates, bool(backward))
        if found is None:
            continue
        fitting += 1
        assert found.blocks <= card.multiprocessors
        assert found.shared_bytes <= card.shared_bytes
        assert (found.blocks - 1) * found.units < hidden <= found.blocks * found.units
        assert min(batch, 4) <= found.tile <= batch
        assert found.threads in range(32, 257, 32)
    assert 500 < fitting < 2900


@pytest.mark.usefixtures("cuda")
class TestOnTheDevice:
    def results(self, name: str, card: Card, monkeypatch: pytest.MonkeyPatch, hidden: int = 9, **settings: Any) -> list[np.ndarray]:
        monkeypatch.setattr(sequences, "card_of", lambda array: card)
        arrays = recurrent_inputs(name, steps=3, batch=6, width=2, hidden=hidden)
        outputs, gradients = run(name, [to_device(a.astype(np.float32), "cuda") for a in arrays], dict(settings))
        return [a for a in (*outputs, *gradients) if a is not None]

    @pytest.mark.parametrize("name", GATES)
    @pytest.mark.parametrize("mode", ["float32", "bfloat16"])
    def test_the_same_bits_on_every_card(self, name: str, mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """One block, two and three; all rows at once, and four or five of six (a product's sums have the same order)."""
        small = 4 * (GATES[name] * 9 * 3 + 4 * (GATES[name] * 9 + 3))
        for settings in [{}, {"lengths": [3, 1, 3, 2, 1, 3], "reverse": True}]:
            with products(mode):
                first, *others = (
                    self.results(name, card, monkeypatch, **settings)
                    for card in (Card(1, 65_536, True), Card(2, 65_536, True), Card(3, small, True))
                )
            for other in others:
                for a, b in zip(first, other, strict=True):
                    np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("name", GATES)
    def test_a_direction_that_does_not_fit(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """ds has several gates per unit, so that the backward pass needs more room than the forward pass."""
        gates = GATES[name]
        card = Card(2, 4 * (gates * 9 * 5 + 4 * (9 + gates * 5)), True)  # four rows of the forward pass
        assert plan(card, 6, 9, gates, False)
        assert bool(plan(card, 6, 9, gates, True)) == (gates == 1)
        monkeypatch.setattr(sequences, "card_of", lambda array: card)
        assert_agrees(name, *recurrent_inputs(name, batch=6, hidden=9), lengths=np.array([3, 1, 3, 2, 1, 3]))

    @pytest.mark.skipif(has_gpu(), reason="a GPU has room for these blocks")
    def test_more_blocks_than_the_card_has_room_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The emulated card has three multiprocessors with at most 16 blocks each; a plan for a hundred is refused, and does not hang."""
        with pytest.raises(LaunchError, match="rnn_sequence_forward: too large for a cooperative launch: 50 blocks"):
            self.results("rnn", Card(100, 65_536, True), monkeypatch, hidden=50)

    def test_what_the_card_says(self) -> None:
        card = sequences.card_of(to_device(np.zeros(1, np.float32), "cuda"))
        assert card.multiprocessors >= 1
        assert card.shared_bytes >= 48 * 1024
