"""One element's verdict, from the tape's value, the measured one and its uncertainty."""

import numpy as np
import pytest

from tinylm.verify.verdicts import OK, UNDECIDED, WRONG, judged


@pytest.mark.parametrize(
    ("a", "b", "doubt", "expected"),
    [
        (0.0, 0.0, 0.1, OK),  # both are zero, however exactly
        (0.0, 0.0, np.inf, UNDECIDED),
        (1.0, 0.0, 1.0, UNDECIDED),
        (1.0, 0.0, 0.01, WRONG),
        (1.0, 1.0, 1e-5, OK),
        (1.0, 1.0, 1e-3, UNDECIDED),
        (np.nan, 1.0, 1e-5, WRONG),
    ],
)
def test_verdicts(a, b, doubt, expected):
    a, b, doubt = (np.array([[x]]) for x in (a, b, doubt))
    assert judged(a, b, doubt, np.full((1, 1), 1e-12), np.abs(b), 1.0, 1e-6).item() == expected
