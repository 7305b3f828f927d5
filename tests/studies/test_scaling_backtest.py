"""The judge of backtests: no family judges itself, an interval that is too narrow is noticed; and the runs, which are not repeated."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from long_runs import stop_at
from script_helpers import fails_with_one_line, script_here

from tinylm.errors import CheckpointError
from tinylm.studies.scaling_backtest import (
    SHIPPED,
    Result,
    judge,
    load_results,
    points_of,
    result_of,
    runs_of,
    save_results,
    shipped_calibration,
)
from tinylm.studies.scaling_families import FAMILIES
from tinylm.studies.scaling_laws import Point
from tinylm.studies.scaling_misses import Calibration, Miss, calibrate
from tinylm.train import Run

AWAY = [(2, 1), (4, 1), (1, 2), (1, 4), (2, 10)]


def planted(name: str, off: Sequence[float], doubt: str = "") -> Result:
    """Returns a family whose law predicts 2.0 for every held-out run, which ends at 2 exp(off)."""
    misses = [Miss(math.log(size), math.log(data), r) for (size, data), r in zip(AWAY, off, strict=True)]
    held_out = [Point(100 * size, 100 * data, 2.0 * math.exp(r)) for (size, data), r in zip(AWAY, off, strict=True)]
    return Result(name, (Point(100, 100, 2.5),), tuple(held_out), (2.0,) * len(AWAY), tuple(misses), doubt)


def families(count: int) -> list[Result]:
    draw = np.random.default_rng(0)
    return [planted(f"family {i}", (0.02 * draw.standard_normal(len(AWAY))).tolist()) for i in range(count)]


def test_a_family_that_is_unlike_the_others_does_not_hold() -> None:
    verdict = judge([*families(14), planted("odd", [0.0, 0.0, 0.0, 0.0, 0.5])])
    assert [run.held for run in verdict.judged["odd"]] == [True, True, True, True, False]
    assert 13 <= verdict.families_held <= 14
    (last,) = verdict.judged["odd"][-1:]
    assert (last.times_size, last.times_data, last.run.loss) == pytest.approx((2, 10, 2 * math.exp(0.5)))
    assert last.low < last.loss < last.high
    assert last.width == pytest.approx((last.high - last.low) / last.loss)


def test_intervals_that_are_too_narrow_are_noticed() -> None:
    def too_sure(others: Sequence[Sequence[Miss]]) -> Calibration:
        found = calibrate(others)
        return dataclasses.replace(found, k=found.k / 4)

    honest, narrow = judge(families(15)), judge(families(15), too_sure)
    assert honest.families_held >= 13
    assert narrow.families_held <= 5
    assert narrow.width == pytest.approx(honest.width / 4, rel=0.05)


def test_no_family_has_a_part_in_its_own_intervals() -> None:
    seen: list[Any] = []

    def noting(others: Sequence[Sequence[Miss]]) -> Calibration:
        seen.append(others)
        return calibrate(others)

    every = [*families(13), planted("refused", [0.1] * 5, doubt="noise")]
    verdict = judge(every, noting)
    assert [len(others) for others in seen] == [12] * 13
    for mine, others in zip(every, seen, strict=False):
        assert mine.misses not in others
        assert every[-1].misses not in others, "what is refused gives no interval either"
    assert verdict.refused == {"refused": "noise"}
    assert "refused" not in verdict.judged


def test_results_are_kept(tmp_path: Path) -> None:
    every = families(3)
    save_results(every, tmp_path / "results.json")
    again = load_results(tmp_path / "results.json")
    assert [(r.name, r.fitted, r.held_out, r.doubt) for r in again] == [(r.name, r.fitted, r.held_out, r.doubt) for r in every]
    assert [m.miss for m in again[0].misses] == pytest.approx([m.miss for m in every[0].misses], abs=1e-6)
    (tmp_path / "results.json").write_text('[{"name": "x"}]', encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"results.json is damaged: 'fitted'"):
        load_results(tmp_path / "results.json")


def test_a_fit_sees_only_its_own_runs() -> None:
    points = [Point(n, d, 9 * n**-0.05 * d**-0.06) for n in (1000, 2000, 4000) for d in (10_000, 20_000, 40_000)]
    good, bad = (result_of("x", points, [Point(8000, 80_000, loss)]) for loss in (2.0, 9.0))
    assert good.loss == bad.loss == pytest.approx([9 * 8000**-0.05 * 80_000**-0.06])
    assert bad.misses[0].miss - good.misses[0].miss == pytest.approx(math.log(9 / 2))


def test_what_is_shipped_is_what_its_runs_give() -> None:
    results = load_results(SHIPPED)
    assert len(results) >= 15
    assert results[0].name == "README's example"
    for kept in results:
        again = result_of(kept.name, kept.fitted, kept.held_out)
        assert again.loss == pytest.approx(kept.loss, rel=1e-5)
        assert again.doubt == kept.doubt
        for one, other in zip(again.misses, kept.misses, strict=True):
            assert list(vars(one).values()) == pytest.approx(list(vars(other).values()), abs=1e-5)
    verdict = judge(results)
    assert len(verdict.refused) <= 3 * len(results) / 15
    assert verdict.families_held >= 11 / 12 * len(verdict.judged)
    assert verdict.width <= 0.15
    assert shipped_calibration().families == len(verdict.judged)


def test_runs_are_not_repeated_and_stopped_ones_go_on(tmp_path: Path) -> None:
    family = next(f for f in FAMILIES if f.name == "reviews, characters, gru")
    config = dataclasses.replace(family.config, n_embd=16, n_hidden=16, steps=8, schedule_steps=8, warmup=1, eval_tokens=100)
    these = runs_of(dataclasses.replace(family, config=config, away=((2, 1), (1, 2), (1, 10_000))), tmp_path)
    assert len(these.runs) == 16 + 2, "10,000 times the data would repeat the text"
    assert len(these.seconds()) == len(these.runs)
    trained: list[int] = []

    def stopping(run: Run) -> Any:
        if len(trained) == 17:
            stop_at(run, 3)
        trained.append(run.progress.step)
        return run.train(lambda record: None)

    assert points_of(these, tmp_path, stopping, lambda number: None) is None
    assert trained == [0] * 18
    points = points_of(these, tmp_path, stopping, lambda number: None)
    assert trained == [0] * 18 + [3]
    assert points is not None
    assert points[-1].tokens == 2 * points[15].tokens
    assert points[-2].parameters == pytest.approx(2 * points[15].parameters, rel=0.2)
    assert points == points_of(these, tmp_path, stopping, lambda number: None)
    assert len(trained) == 19


def test_families_are_many_and_an_unknown_one_is_refused() -> None:
    names = [family.name for family in FAMILIES]
    assert len(set(names)) == len(names) >= 15
    assert {family.config.tokenizer for family in FAMILIES} == {"char", "word", "bpe"}
    assert {"gpt", "gru"} < {family.config.model for family in FAMILIES}
    fails_with_one_line(script_here("scaling_backtest.py", "--families", "Greek"), "--families 'Greek': expected some of README's example")
