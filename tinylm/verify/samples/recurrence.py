"""Samples of the recurrent layers."""

from functools import partial

import numpy as np

from tinylm.verify.samples.registry import Rng, Samples, normal, sample, samples_for


def _recurrent(gates: int, states: int, rng: Rng) -> Samples:
    steps, batch, width, hidden = 3, 2, 2, 2

    def weights(biases: bool = True) -> list[np.ndarray | None]:
        pair = [normal(rng, gates * hidden, width), normal(rng, gates * hidden, hidden)]
        return [*pair, *([normal(rng, gates * hidden), normal(rng, gates * hidden)] if biases else [None, None])]

    def first() -> list[np.ndarray]:
        return [normal(rng, batch, hidden) for _ in range(states)]

    x = normal(rng, steps, batch, width)
    yield sample("all arguments", x, *weights(), *first())
    yield sample("no initial state", x, *weights())
    yield sample("no biases", x, *weights(biases=False), *first())
    yield sample("reverse", x, *weights(), *first(), reverse=True)
    yield sample("lengths", x, *weights(), *first(), lengths=np.array([2, 3]))
    yield sample("lengths, reverse", x, *weights(), *first(), lengths=np.array([1, 3]), reverse=True)
    yield sample("one step", x[:1], *weights(), *first())
    yield sample("empty batch", x[:, :0], *weights())


samples_for("lstm")(partial(_recurrent, 4, 2))
samples_for("gru")(partial(_recurrent, 3, 1))


@samples_for("rnn")
def _rnn(rng: Rng) -> Samples:
    yield from _recurrent(1, 1, rng)
    for nonlinearity in ("relu", "sigmoid"):
        weights = normal(rng, 3, 2), normal(rng, 3, 3), normal(rng, 3)
        yield sample(f"{nonlinearity}, one bias", normal(rng, 3, 2, 2), *weights, nonlinearity=nonlinearity)
