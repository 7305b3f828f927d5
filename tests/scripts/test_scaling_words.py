"""What --scaling says before its tables: three answers and a target, with intervals, or why it cannot tell."""

import dataclasses
import math
import sys
from unittest import mock

from script_helpers import SCRIPTS

from tinylm.studies.scaling_predictions import CannotTell, Prediction
from tinylm.studies.scaling_target import Span, Target, Way
from tinylm.train import default_config

with mock.patch.object(sys, "path", [str(SCRIPTS), *sys.path]):
    from support.scaling_words import sentences, short, target_sentence

THIS, MORE = Prediction(230_976, 614_400, 1.986, 1.906, 2.08), Prediction(230_976, 6_144_000, 1.62, 1.4, 1.85)
WIDE = dataclasses.replace(default_config("gpt"), n_embd=136, lr=7.06e-4)


def test_the_three_answers() -> None:
    assert sentences(THIS, MORE, Prediction(461_952, 614_400, 1.984, 1.86, 2.1), WIDE) == [
        "This run (230,976 parameters, 614,400 tokens) will reach about 1.99 nats per token, between 1.91 and 2.08.",
        "Ten times the data (6,144,000 tokens) gives about 1.62 nats per token, between 1.40 and 1.85: 0.37 lower.",
        "Twice the size (--n-embd 136 --lr 0.000706) gives about 1.98 nats per token, between 1.86 and 2.10: no lower.",
    ]


def test_what_it_cannot_tell() -> None:
    noisy = [CannotTell(1000, 2000, "the runs scatter: others would tell")] * 3
    assert sentences(*noisy, WIDE) == [
        "This run (1,000 parameters, 2,000 tokens): cannot tell: the runs scatter: others would tell.",
        "Ten times the data (2,000 tokens): cannot tell, for the same reason.",
        "Twice the size (--n-embd 136 --lr 0.000706): cannot tell, for the same reason.",
    ]
    far = CannotTell(230_976, 6_144_000, "no backtest went so far")
    assert "(6,144,000 tokens): cannot tell: no backtest went so far." in sentences(THIS, far, MORE, WIDE)[1]


def test_what_a_loss_takes() -> None:
    size, data, hours = Span(231e3, 231e3, 231e3), Span(1.31e6, 2.614e6, math.inf), Span(0.05, 0.1, math.inf)
    way = Way("this size, more data", size, data, hours)
    assert target_sentence(Target(1.75, (way,)), 1_000_000) == (
        "1.75 nats per token take 2.61M (1.31M or more) tokens of data, 231k parameters and 6 min (3 min or more) of training "
        "(this size, more data). The text has 1,000,000 tokens to train on: more text is needed."
    )
    assert target_sentence(Target(1.75, (way,)), 10_000_000).endswith("(this size, more data).")
    assert target_sentence(Target(0.5, (), "out of reach"), 1) == "0.5 nats per token: cannot tell: out of reach."
    assert [short(x) for x in (999, 1234, 614_400, 2.5e9)] == ["999", "1.23k", "614k", "2.5G"]
