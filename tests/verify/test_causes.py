"""A wrong gradient fails, and the report says what is likely wrong with it."""

import numpy as np
import pytest
from broken_gradients import BROKEN

import tinylm
from tinylm import nn
from tinylm.backend import constant
from tinylm.verify import gradcheck
from tinylm.verify.jacobians import Problem
from tinylm.verify.kinks import kinks_of


def causes(report):
    return "; ".join(row.cause for row in report.failures)


@pytest.mark.parametrize("mode", ["full", "directions"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_gradient_fails_and_its_cause_is_named(name, mode):
    op, args, words = BROKEN[name]
    report = gradcheck(op, *args, mode=mode)
    assert not report.ok
    for word in words:
        assert word in causes(report), report
    assert f"likely cause: {report.failures[0].cause}" in str(report)
