"""What `classify study` does: a classifier beside naive Bayes and TF-IDF on the shipped sentences, in several ways."""

import dataclasses
import sys
from dataclasses import dataclass
from typing import Literal

from rich.table import Table

from support.class_figures import interval
from support.tables import screen
from tinylm.checks import check_integer
from tinylm.studies.classifying import answers, shipped_trials
from tinylm.train.tasks.classifier_config import default_config


@dataclass(frozen=True)
class Study:
    """Trains a model on the shipped sentences from several seeds: on all five splits, with 300 and 1,000 training sentences, with one of
    the three sites left out of training and tested on, and with the site as the label. Prints its accuracies beside those of naive
    Bayes and of TF-IDF with logistic regression, with 95 % intervals of the differences on the same texts. A few minutes for the
    default model."""

    model: Literal["linear", "bag", "lstm", "transformer"] = "linear"
    """which model, with its defaults"""
    seeds: int = 3
    """how many seeds, from 0 on"""
    dry_run: bool = False
    """one epoch of one model on one split with 1,000 training sentences"""


def study(arguments: Study) -> None:
    check_integer("--seeds", arguments.seeds, 1)
    config, every = default_config(arguments.model), list(shipped_trials())
    if arguments.dry_run:
        config, every = dataclasses.replace(config, epochs=1, members=1), every[5:6]
    table = Table(
        "",
        "naive Bayes",
        "TF-IDF",
        arguments.model,
        "minus naive Bayes",
        "95 % interval",
        "minus TF-IDF",
        "95 % interval",
        "calibration",
        box=None,
    )
    for question, answer in answers(config, every, range(arguments.seeds)):
        print(f"{question}: done", file=sys.stderr, flush=True)
        names = ("naive Bayes", "TF-IDF", arguments.model)
        differences = []
        for other in names[:2]:
            mean, low, high = answer.difference(arguments.model, other)
            differences += [f"{100 * mean:+.2f}", interval(low, high, sign="+")]
        table.add_row(question, *(f"{100 * answer.accuracy(name):.2f}" for name in names), *differences, f"{answer.calibration:.4f}")
    screen(140).print(table)
    print(
        f"accuracies in %, means over the test parts and of {arguments.model} over {arguments.seeds} seeds; calibration: the error of its"
    )
    print("probabilities in 10 bins of equal count, all test parts together")
