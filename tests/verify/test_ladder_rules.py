"""The ladder of steps gives what its rules say, written here for one output at a time, for functions of many kinds."""

import itertools
import math

import numpy as np
import pytest

from tinylm.verify.ladders import EPSILON, NEAR, TINY, WIDE, Ladder

SMALLEST = 4 * 5e-324
LARGEST = 3.0  # intermediate value
STAIR = 4 * EPSILON
FUNCTIONS = {
    "nothing": lambda s: 0.0 * s,
    "s": lambda s: s,
    "e^s - 1": np.expm1,
    "s²": lambda s: s * s,
    "s³ - s": lambda s: s**3 - s,
    "fast": lambda s: np.sin(20 * s) / 20,
    "very fast": lambda s: np.sin(1e4 * s) / 1e4,
    "flat beyond a step": lambda s: np.tanh(300 * s) / 300,
    "two scales": lambda s: s + np.sin(1e5 * s) / 1e5,
    "a small one on top": lambda s: s + np.sin(1e5 * s) * 1e-9,
    "steep and small": lambda s: -s + np.tanh(1e6 * s) * 3e-6,
    "a turn between two steps": lambda s: 2 * s - 3 * np.tanh(s * 2e3) / 2e3,
    "|s|": abs,
    "|s|^1.5": lambda s: abs(s) ** 1.5,
    "|s|^1.4": lambda s: abs(s) ** 1.4,
    "sqrt |s|": lambda s: math.sqrt(abs(s)),
    "relu": lambda s: max(s, 0.0),
    "a weak kink": lambda s: s + 2e-6 * abs(s),
    "a very weak kink": lambda s: s + 1e-9 * abs(s),
    "a kink beside": lambda s: s + max(s - 1e-3, 0.0),
    "a kink close by": lambda s: max(s - 3e-7, 0.0) + 2 * s,
    "a jump": lambda s: float(np.sign(s)),
    "a small jump": lambda s: s + 1e-7 * np.sign(s),
    "a tiny jump": lambda s: 5e-10 * np.sign(s),
    "a jump no larger than rounding": lambda s: 1e-10 * np.sign(s),
    "an edge": lambda s: math.sqrt(s) if s >= 0 else math.nan,
    "an edge beside": lambda s: math.log1p(s / 1e-4) if s > -1e-4 else math.nan,
    "an overflow": lambda s: np.float64(1e308) * s if abs(s) < 0.1 else s * np.inf,
    "rounded to 2^-30": lambda s: np.round(s * 2.0**30) / 2.0**30 + s / 3,
    "rounded beside 1000": lambda s: (s + 1000.0) - 1000.0,
    "noise": lambda s: s + 1e-13 * np.cos(1e9 * s),
    "more noise": lambda s: 0.3 * s + 1e-8 * (np.cos(1e11 * s) - 1),
    "underflow": lambda s: 1e-322 * s,
    "small": lambda s: 1e-300 * np.sin(s),
    "stairs": lambda s: np.round(s / (1.2 * NEAR[4])) * STAIR,
    "high stairs": lambda s: np.round(s / (1.2 * NEAR[4])) * 8 * LARGEST * EPSILON,
    "too high for stairs": lambda s: np.round(s / (1.2 * NEAR[4])) * 9 * LARGEST * EPSILON,
    "stairs at the widest step": lambda s: np.round(s * 3) * STAIR,
    "stairs on one side": lambda s: np.floor(s / (1.2 * NEAR[4])) * STAIR if s > 0 else 0.0,
    "stairs far away": lambda s: np.round(s / 300) * STAIR,
    "a rest and a line": lambda s: s * STAIR / NEAR[4] if abs(s) > 0.9 * NEAR[4] else 0.0,
    "a rest, and a line on the left": lambda s: s * STAIR / NEAR[4] if s < -0.9 * NEAR[4] else np.round(s / (1.2 * NEAR[4])) * STAIR,
    "a line beyond 1/2": lambda s: s if abs(s) > 0.5 else 0.0,
    "a line beyond 2": lambda s: s if abs(s) > 2 else 0.0,
    "a line beyond 10": lambda s: s if abs(s) > 10 else 0.0,
    "stairs and a line far away": lambda s: s * 1e-20 if abs(s) >= 64 else 0.0,
}
SIZES = {"nothing": 7.0, "small": 1e-300, "rounded beside 1000": 1000.0, "stairs far away": 1e3, "more noise": 1e8}


def stair(f, steps, plus, minus):
    """The height of a stair: of what stands still at the smallest steps, moves on both sides one step above the smallest
    that moves it, and stands still just beside that one."""
    moving = [k for k in range(len(steps)) if plus[k] or minus[k]]
    if not moving or moving[-1] == len(steps) - 1:
        return 0.0
    k = moving[-1]
    wider = max(k - 1, 0)
    if not (plus[wider] and minus[wider] and np.isfinite(plus[wider]) and np.isfinite(minus[wider])):
        return 0.0
    height = np.fmax(abs(plus[k]), abs(minus[k]))
    beside = steps[k] * (1 + 2.0**-20)
    return height if height <= 8 * EPSILON * LARGEST and f(beside) == plus[k] and f(-beside) == minus[k] else 0.0


def candidates(slope, rounding, kink):
    """Yields (value, uncertainty, the kink's part, the number of its smallest step): differences, and extrapolated twice."""
    for order in range(3):
        if order:
            slope = [b + (b - a) / (16**order - 1) for a, b in itertools.pairwise(slope)]
            kink = [np.fmax(a, b) for a, b in itertools.pairwise(kink)]
        moved = [abs(b - a) for a, b in itertools.pairwise(slope)]
        for i, own in enumerate(moved):
            truncation = np.fmax(own, moved[i + 1] / 4) if i + 1 < len(moved) else own
            doubt = 2 * truncation + rounding[order + 1 + i] + kink[i + 1]
            yield slope[i + 1], doubt if np.isfinite(doubt) and np.isfinite(slope[i + 1]) else math.inf, kink[i + 1], order + 1 + i


def best_of(found, most):
    """The least uncertain that none at a smaller step contradicts; and the best at a larger step that contradicts it."""
    allowed = [c for c in found if c[1] < math.inf]
    for _ in range(most):
        chosen = min(allowed, key=lambda c: c[1], default=(found[0][0], math.inf, found[0][2], found[0][3]))
        value, doubt, _, level = chosen
        against = [c for c in found if doubt < math.inf and abs(c[0] - value) > 3 * (c[1] + doubt)]
        if not any(c[3] > level for c in against):
            break
        allowed = [c for c in allowed if c[3] > level]
    farther = [c for c in against if c[3] < level and c[1] < 0.1 * np.fmin(abs(c[0] - value), abs(c[0]))]
    return chosen, min(farther, key=lambda c: c[1], default=(math.nan, math.nan))


def estimate(f, size, steps):
    """(value, uncertainty, the value of larger steps, its uncertainty, kinked, still) by the rules."""
    plus, minus = ([np.float64(f(sign * h)) for h in steps] for sign in (1, -1))
    sizes = [np.maximum(np.fmax(abs(p), size), np.fmax(abs(m), size)) for p, m in zip(plus, minus, strict=True)]
    slope = [p / (2 * h) - m / (2 * h) for p, m, h in zip(plus, minus, steps, strict=True)]
    gap = [abs(p / h + m / h) for p, m, h in zip(plus, minus, steps, strict=True)]
    near = [i for i, h in enumerate(steps) if h < 1]
    moves = [bool(p or m) for p, m in zip(plus, minus, strict=True)]
    still = not any(moves[i] for i in near)
    hidden = 0.0 if moves[-1] else LARGEST
    if still:
        hidden = max([LARGEST, *(s for s, h in zip(sizes, steps, strict=True) if np.isfinite(s) and h <= 4)])
    sizes = [s if moved else np.fmax(s, hidden) for s, moved in zip(sizes, moves, strict=True)]
    scatter = [abs(slope[i] - slope[i - 1]) * steps[i] for i in range(len(steps) - 4, len(steps))]
    noise = np.fmax(sorted(x if np.isfinite(x) else 0.0 for x in scatter)[1], stair(f, steps, plus, minus))
    rounding = [(noise + EPSILON * (2 * z + abs(d)) + SMALLEST) / h + SMALLEST for z, d, h in zip(sizes, slope, steps, strict=True)]
    kink = [0.0] + [gap[i] if gap[i] > 0.5 * gap[i - 1] and gap[i] > 4 * rounding[i] else 0.0 for i in range(1, len(steps))]
    (value, doubt, bend, _), farther = best_of(list(candidates(slope, rounding, kink)), len(steps))
    kinked = bend > 100 * np.min(rounding) and bend > 0.5 * doubt
    change = [np.fmax(abs(plus[i]), abs(minus[i])) for i in near]
    jump = change[-1] > 0.5 * change[-4] and change[-1] > 1e6 * EPSILON * np.fmax(sizes[-1], LARGEST) and not doubt < abs(value)
    return value, doubt, farther[0], farther[1], bool(kinked or jump or not np.isfinite(slope).any()), still


def drawn(rng):
    """Returns a random sum of up to three terms: smooth, bent, steep, with jumps, rests or stairs; it is 0 at 0."""
    terms = []
    for i in range(rng.integers(1, 4)):
        a = rng.choice([-1, 1]) * (rng.uniform(0.1, 2) if i == 0 else 10 ** rng.uniform(-12, 0))
        k, d, p = 10 ** rng.uniform(0, 7), 10 ** rng.uniform(-8, 1.5), rng.uniform(1.1, 2.5)
        stair = STAIR * rng.uniform(0.2, 7.5)
        kinds = [
            lambda s, a=a: a * s,
            lambda s, a=a: a * s * s,
            lambda s, a=a: a * abs(s),
            lambda s, a=a: a * np.sign(s),
            lambda s, a=a, p=p: a * abs(s) ** p,
            lambda s, a=a, k=k: a * np.tanh(k * s) / k,
            lambda s, a=a, k=k: a * np.sin(k * s) / k,
            lambda s, a=a, d=d: a * max(s - d, 0.0),
            lambda s, a=a, d=d: a * s if abs(s) > d else 0.0,
            lambda s, d=d, stair=stair: np.round(s / d) * stair,
            lambda s, a=a, d=d: a * np.round(s / d) * d,
        ]
        terms.append(kinds[rng.integers(len(kinds))])
    return lambda s: sum(term(s) for term in terms)


DRAWN = [drawn(np.random.default_rng(seed)) for seed in range(240)]


def of_all(functions):
    return lambda s: np.array([float(f(s)) for f in functions])


def test_the_steps():
    assert tuple(4.0**n for n in range(20, -24, -1)) == (WIDE + NEAR + TINY)
    assert (len(WIDE), len(NEAR), len(TINY)) == (21, 13, 10)


@pytest.mark.parametrize("steps", [NEAR, NEAR + TINY, WIDE + NEAR + TINY], ids=["near", "tiny", "wide"])
def test_the_estimate_follows_its_rules(steps):
    functions = [*FUNCTIONS.values(), *(DRAWN[:80] if WIDE[0] in steps else DRAWN)]
    sizes = np.array(
        [*(SIZES.get(name, 0.0) for name in FUNCTIONS), *10 ** np.random.default_rng(0).uniform(-9, 6, len(functions) - len(FUNCTIONS))]
    )
    ladder = Ladder(of_all(functions), lambda y: (y, np.fmax(np.abs(y), sizes)), np.full(len(functions), LARGEST))
    with np.errstate(all="ignore"):
        found = ladder.climb(steps)
    kinds = set()
    for j, f in enumerate(functions):
        with np.errstate(all="ignore"):
            value, doubt, farther, its_own, kinked, still = estimate(f, sizes[j], steps)
        name = [*FUNCTIONS, *range(len(DRAWN))][j]
        np.testing.assert_allclose([found.value[j], found.uncertainty[j]], [value, doubt], rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(found.farther[j], farther, rtol=1e-9, err_msg=name)
        if np.isfinite(farther):
            np.testing.assert_allclose(found.farther_uncertainty[j], its_own, rtol=1e-9, err_msg=name)
        assert (bool(found.kinked[j]), bool(found.still[j])) == (kinked, still), name
        kinds.add((kinked, still, bool(np.isfinite(farther))))
    assert len(kinds) >= 4, "each answer is given"


AWAY = {  # what stands still at small steps, where rounding of inner values takes the change away
    **FUNCTIONS,
    "rounded away below 10⁻⁴": lambda s: s if abs(s) > 1e-4 else 0.0,
    "rounded away below 10⁻²": lambda s: s + s**3 if abs(s) > 1e-2 else 0.0,
    "half of it": lambda s: s if abs(s) > 1e-4 else s / 2,
    "a thousandth of it": lambda s: s if abs(s) > 1e-4 else s * 0.9995,
    "slowly": lambda s: s - s * np.exp(-30 * abs(s)),
    "on one side": lambda s: s if s > 1e-4 else 0.0,
    "bent before": lambda s: (s + 20 * s * abs(s)) if abs(s) > 1e-3 else 0.0,
}


def hides(f, steps, taped, value, rounding):
    """Whether the differences settle on the value from one step to the next, and say nothing against the tape before."""
    n = len(steps)
    slope = [(np.float64(f(h)) - np.float64(f(-h))) / (2 * h) for h in steps]
    away = [abs(d - value) for d in slope]
    nearer = [
        np.fmax(away[i + 1], away[i + 2]) / away[i] if np.isfinite(away[i]) and away[i] > 1e-3 * abs(value) else 1.0 for i in range(n - 2)
    ]
    settled = 1 + nearer.index(min(nearer))
    once = [b + (b - a) / 15 for a, b in itertools.pairwise(slope)]
    twice = [b + (b - a) / 255 for a, b in itertools.pairwise(once)]  # number i ends at the step i + 2
    for i in range(2, min(settled, n - 1)):
        if abs(twice[i - 2] - taped) > 2 * abs(twice[i - 1] - twice[i - 2]) + rounding / steps[i]:
            return False
    return bool(min(nearer) <= 1e-3 and abs(taped - value) * steps[settled] <= rounding)


def hidden(rng):
    """Returns a function that rounding takes away at small steps."""
    d, left = 10 ** rng.uniform(-5, -1), rng.choice([0.0, 0.5, 0.999, 0.9995, 1e-4])
    bend, a = rng.choice([0.0, 1.0, 30.0]), rng.uniform(0.5, 2)
    p = rng.uniform(0.5, 2)
    return lambda s: a * s * (1 + bend * abs(s) ** p) if abs(s) > d else a * left * s


@pytest.mark.parametrize("steps", [NEAR, WIDE + NEAR])
def test_what_rounding_may_hide_follows_its_rules(steps):
    functions = [f for name, f in AWAY.items() if "edge" not in name and name != "an overflow"]
    functions += [hidden(np.random.default_rng(seed)) for seed in range(100)]
    ladder, answers = Ladder(of_all(functions), lambda y: (y, np.abs(y)), np.full(len(functions), LARGEST)), []
    value, rng = ladder.climb(steps).value, np.random.default_rng(0)
    for level in (1e-16, 1e-8, 3e-5, 2.0**-14, 1e-4, 1e-3, 3e-3, 0.03, 0.1):
        for taped in (value, value + 1e-3, np.ones(len(functions)), 1 + 0.1 * rng.standard_normal(len(functions)), value * 1.001):
            rounding = level * rng.uniform(0.3, 3, len(functions))
            found = ladder.hides(taped, value, rounding)
            with np.errstate(all="ignore"):
                expected = [hides(f, NEAR, t, v, r) for f, t, v, r in zip(functions, taped, value, rounding, strict=True)]
            assert found.tolist() == expected
            answers += expected
    assert 100 < sum(answers) < len(answers) - 100


def test_how_much_rounding_hides_a_derivative():
    """From a certain size on: found here by the rules, for functions that bend where nothing is rounded away yet."""
    functions = [hidden(np.random.default_rng(seed)) for seed in range(100, 140)]
    ladder, least = Ladder(of_all(functions), lambda y: (y, np.abs(y)), np.full(len(functions), LARGEST)), []
    value = ladder.climb(NEAR).value
    taped = 1.3 * np.ones(len(functions))
    for f, t, v in zip(functions, taped, value, strict=True):
        low, high = -20.0, 3.0  # exponents
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if hides(f, NEAR, t, v, 10**middle) else (middle, high)
        least.append(10**high)
    assert sum(x < 100 for x in least) > 20, "most can be hidden"
    possible = np.array(least) < 100
    for factor, expected in ((1 + 1e-6, possible), (1 - 1e-6, np.zeros(len(least), bool))):
        np.testing.assert_array_equal(ladder.hides(taped, value, np.array(least) * factor) & possible, expected)
