"""Every mistake of planted_mistakes.py can still be planted, and some check finds it."""

import pytest

from . import emulator
from .mutations import CHECKS, check, planted
from .planted_mistakes import MUTATIONS
from .workloads import WORKLOADS

every = pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: f"{m.file}: {m.mistake}".replace(" ", "_"))


@every
def test_the_place_is_there(mutation):
    planted(mutation)


def test_every_kernel_file_has_one_or_shares_its_text():
    same = {"scaled_dot_product_attention_128": "scaled_dot_product_attention_32"}
    assert {same.get(file, file) for file in WORKLOADS} == {m.file for m in MUTATIONS}


@pytest.mark.slow
@pytest.mark.skipif(emulator.unavailable() is not None, reason=str(emulator.unavailable()))
@every
def test_some_check_catches_it(mutation):
    assert set(check(mutation)) != {"-"}, CHECKS
