"""What every check returns."""

import json
import math

import numpy as np
import pytest

import tinylm
from tinylm.verify import Report, gradcheck
from tinylm.verify.reports import Drift, Row, joint_norm, relative_error, worst_verdict


def test_errors_are_relative_to_the_norm_with_a_floor():
    a, b = np.array([3.0, 4.0]), np.array([3.0, 0.0])
    assert relative_error(a, b, 5.0) == pytest.approx(4 / 3)
    assert relative_error(a, b * 0, 5000.0) == pytest.approx(1.0)  # the floor: a thousandth of all
    assert relative_error(b, b, 0.0) == 0
    assert relative_error(a, b * 0, 0.0) == np.inf
    assert joint_norm([a, np.array([[12.0]])]) == 13
    assert joint_norm([]) == 0


ROWS = (Row("good", 0.05), Row("bad", 0.2, "here", "a factor"), Row("worse", float("nan"), "there", measures={"cosine": 0.5}))


def test_failures_and_the_worst():
    report = Report("title", 0.1, ROWS)
    assert [row.name for row in report.failures] == ["bad", "worse"]
    assert not report.ok
    assert report.worst.name == "worse"  # NaN
    assert np.isnan(report.error)
    assert Report("title", 0.1, ROWS[:2]).worst.name == "bad"
    assert Report("empty", 0.1, ()).ok
    assert Report("empty", 0.1, ()).worst is None


def test_it_reads_well():
    lines = str(Report("title", 0.1, ROWS, ("a remark",))).splitlines()
    assert lines[0].startswith("title: FAILED")
    assert lines[1] == "  bad: relative error 2.00e-01; here; likely cause: a factor"
    assert lines[2] == "  worse: relative error nan; there"
    assert lines[3] == "  a remark"
    assert len(lines) == 4


def test_it_is_json():
    report = Report("title", 0.1, ROWS, ("a remark",), ((1e-3, 0.5), (1e-4, float("inf"))))
    record = json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert record == report.record()
    assert record["ok"] is False
    assert [row["ok"] for row in record["rows"]] == [True, False, False]
    assert record["rows"][1] == {"name": "bad", "ok": False, "verdict": "wrong", "error": 0.2, "detail": "here", "cause": "a factor"}
    assert record["rows"][2]["error"] == "nan"
    assert record["rows"][2]["cosine"] == 0.5
    assert record["remarks"] == ["a remark"]
    assert record["curve"] == [[1e-3, 0.5], [1e-4, "inf"]]


def test_gradcheck_answers_one():
    report = gradcheck(tinylm.exp, np.ones(2), thorough=True)
    assert isinstance(report, Report)
    assert report.worst.name == "x"
    assert json.loads(report.to_json())["ok"] is True


def test_an_error_of_exactly_the_tolerance_is_allowed():
    report = Report("f", 1e-6, (Row("a", 1e-6), Row("b", np.nextafter(1e-6, 1)), Row("c", math.nan)))
    assert [row.verdict(1e-6) for row in report.rows] == ["ok", "wrong", "wrong"]
    assert [row.name for row in report.failures] == ["b", "c"]
    assert Report("f", 1e-6, report.rows[:1]).ok
    assert Report("f", 1e-6, ()).ok


def test_verdicts_and_the_worst_of_them():
    ok, wrong, undecided = (Report("f", 1e-6, (Row("a", error, decided=d),)) for error, d in ((0.0, ""), (1.0, ""), (0.0, "undecided")))
    assert [r.verdict for r in (ok, wrong, undecided)] == ["ok", "wrong", "undecided"]
    assert [r.ok for r in (ok, wrong, undecided)] == [True, False, False]
    assert worst_verdict([ok, undecided, wrong]) == "wrong"
    assert worst_verdict([ok, undecided]) == "undecided"
    assert worst_verdict([ok, ok]) == worst_verdict([]) == "ok"


def test_a_drift_may_be_thirty_times_that_of_rounding():
    losses = [1.0, 0.5]
    for largest, allowed in ((30 * 1e-15, True), (3.1e-14, False)):
        report = Drift("m", losses, losses, [largest, 1e-15], [1e-15, 1e-15]).report()
        assert report.ok is allowed
        assert report.error == largest
        assert "1.0e-15 after 2 steps, of which rounding alone would make 1.0e-15" in report.rows[0].detail
    assert Drift("m", losses, losses, [2.9e-14], [0.0]).report().tolerance == pytest.approx(3e-14)
