"""All ops, on newly drawn samples and directions: no correct gradient is reported as wrong."""

import pytest

from tinylm.verify.op_checks import check_op, op_names


def failures(seed, orders):
    reports = [r for name in op_names() for n in orders for r in check_op(name, order=n, seed=seed, thorough=n == 1)]
    assert len(reports) > 400 * len(orders)
    return [str(r) for r in reports if not r.ok]


@pytest.mark.parametrize("seed", range(3))
def test_every_op_passes(seed):
    assert failures(seed, [1]) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_no_check_is_flaky(seed):
    assert failures(seed, [1, 2]) == []
