"""CuPy's names and parameters, which the stand-in checks calls against."""

from .stand_in.api import TABLE, Parameters


def test_parameters():
    p = Parameters("a, /, b=, *, c=, d")
    assert p.refuse((1, 2), {"d": 3}) is None
    assert p.refuse((1,), {"b": 2, "c": 3, "d": 4}) is None
    assert p.refuse((), {"a": 1, "d": 1}) == "unknown argument 'a'"
    assert p.refuse((1,), {}) == "argument 'd' is missing"
    assert p.refuse((1, 2, 3), {"d": 1}) == "3 positional arguments, at most 2 are taken"
    assert Parameters("self, *args, **named").refuse((1, 2, 3), {"x": 1}) is None


def test_the_table_is_of_cupy_14():
    assert TABLE["version"].startswith("14.")
    assert len(TABLE["cupy"]) > 400
