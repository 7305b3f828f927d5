"""Classifiers beside naive Bayes and TF-IDF: on other splits, other sites, less text, and another question."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tinylm.data.corpora import LABELLED
from tinylm.data.labelled import SPLITS, LabelledTexts, split_labelled
from tinylm.data.tables import read_table
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.train.tasks.class_figures import bootstrap_interval, calibration_error
from tinylm.train.tasks.classification import Split, baselines, prepare_split, start_classifier, text_probabilities
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.classifier_run import train_classifier

SIZES = (300, 1000)  # training sentences


class Trial(NamedTuple):
    """A question, and one training and test part for it. places: of the test sentences in the corpus."""

    question: str
    data: LabelledTexts
    places: np.ndarray


@dataclass
class Answer:
    """What was found for one question. right[name]: of each test sentence of each trial, whether it was said rightly, of a model the
    mean over the seeds.  places: which sentence that was.  calibration: of the model, pooled over the trials, the mean over the seeds."""

    right: dict[str, list[np.ndarray]] = field(default_factory=dict)
    places: list[np.ndarray] = field(default_factory=list)
    calibration: float = float("nan")

    def accuracy(self, name: str) -> float:
        """Returns the mean over the trials of the accuracy."""
        return float(np.mean([right.mean() for right in self.right[name]]))

    def difference(self, name: str, other: str) -> tuple[float, float, float]:
        """Returns (mean, low, high): how much more often the first is right than the second on the same texts, with a 95 % interval by
        bootstrap over the sentences. A sentence that is in the test parts of several trials is drawn with all of them."""
        gaps = np.concatenate([a - b for a, b in zip(self.right[name], self.right[other], strict=True)])
        sentences, which = np.unique(np.concatenate(self.places), return_inverse=True)
        totals, counts = (np.bincount(which, weights, minlength=len(sentences)) for weights in (gaps, np.ones(len(gaps))))
        return float(gaps.mean()), *bootstrap_interval(totals / counts.mean())


def trials(texts: Sequence[str], labels: np.ndarray, sites: Sequence[str]) -> Iterator[Trial]:
    """Yields all trials on sentences with labels (N,) 0 or 1, each from one of three sites: five splits, the same with 1,000 and 300
    training sentences, two sites to train on and the third to test on, and five splits with the site as the label."""
    kinds = sorted(set(sites))
    of_site = np.array([kinds.index(site) for site in sites])

    def trial(question: str, train: np.ndarray, test: np.ndarray, y: np.ndarray, names: tuple[str, ...]) -> Trial:
        parts = [LabelledTexts([texts[i] for i in part], y[part], names, 0, "") for part in (train, test)]
        data = LabelledTexts(parts[0].texts, parts[0].labels, names, 0, "", test=parts[1])
        return Trial(question, data, test)

    splits = [split_labelled(len(texts), k) for k in range(SPLITS)]
    for train, test in splits:
        yield trial("five splits", train, test, labels, ("0", "1"))
    for size in reversed(SIZES):
        for train, test in splits:
            yield trial(f"{size:,} training sentences", train[:size], test, labels, ("0", "1"))
    for s in range(len(kinds)):
        yield trial("leave one site out", np.flatnonzero(of_site != s), np.flatnonzero(of_site == s), labels, ("0", "1"))
    for train, test in splits:
        yield trial("the site as label", train, test, of_site, tuple(kinds))


def shipped_trials() -> Iterator[Trial]:
    """Yields the trials on the shipped sentences."""
    rows = read_table(LABELLED["uci-sentences"], shipped=True).rows
    yield from trials([row[1] for row in rows], np.array([int(row[0]) for row in rows]), [row[2] for row in rows])


def answers(config: ClassifierConfig, every: Sequence[Trial], seeds: Sequence[int]) -> Iterator[tuple[str, Answer]]:
    """Yields (question, answer) of each question as soon as its trials are done. The model is called config.model."""
    for question in dict.fromkeys(trial.question for trial in every):
        answer = Answer()
        pooled: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {seed: ([], []) for seed in seeds}
        for trial in (trial for trial in every if trial.question == question):
            part = prepare_split(trial.data, 0)
            found = {name: right.astype(float) for name, right in baselines(part).items()}
            means = np.zeros(len(part.test_labels))
            own = prepare_split(trial.data, 0, config.min_count)
            for seed in seeds:
                log_p = _trained(config, own, seed)
                means += (log_p.argmax(axis=1) == own.test_labels) / len(seeds)
                pooled[seed][0].append(log_p)
                pooled[seed][1].append(own.test_labels)
            for name, right in (*found.items(), (config.model, means)):
                answer.right.setdefault(name, []).append(right)
            answer.places.append(trial.places)
        answer.calibration = float(np.mean([calibration_error(np.concatenate(p), np.concatenate(y)) for p, y in pooled.values()]))
        yield question, answer


def _trained(config: ClassifierConfig, part: Split, seed: int) -> np.ndarray:
    """Returns log p(c | text) of the test part by a model trained from a seed."""
    config = dataclasses.replace(config, seed=seed)
    with drawing_from(Generator()):
        model = start_classifier(config, part)
        train_classifier(model, config, part)
        return text_probabilities(model, part.test_texts)
