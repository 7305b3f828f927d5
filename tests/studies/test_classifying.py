"""The study of classifiers: its parts, and what it says of two that are known."""

import dataclasses

import numpy as np
import pytest

from tinylm.studies.classifying import Answer, answers, shipped_trials, trials
from tinylm.train.tasks.classifier_config import default_config


def test_the_trials_on_the_shipped_sentences() -> None:
    every = list(shipped_trials())
    assert [trial.question for trial in every] == [
        *["five splits"] * 5, *["1,000 training sentences"] * 5, *["300 training sentences"] * 5, *["leave one site out"] * 3,
        *["the site as label"] * 5,
    ]  # fmt: skip
    sizes = [(len(trial.data.texts), len(trial.places)) for trial in every]
    assert sizes[:1] + sizes[5:6] + sizes[10:11] + sizes[-1:] == [(2385, 597), (1000, 597), (300, 597), (2385, 597)]
    assert sizes[15:18] == [(1992, 990), (1986, 996), (1986, 996)]
    for trial in every:
        assert trial.data.test is not None
        assert len(trial.data.test.texts) == len(trial.places)
    left_out = [set(trial.places.tolist()) for trial in every[15:18]]
    assert len(set.union(*left_out)) == 2982 == sum(map(len, left_out))
    assert every[-1].data.names == ("amazon", "imdb", "yelp")
    assert set(every[10].data.texts) < set(every[5].data.texts) < set(every[0].data.texts)


def test_a_difference_by_hand() -> None:
    """One model is right at 0 and 1, the other at 0: half of the texts in the first trial, all of those in the second."""
    answer = Answer({"one": [np.array([1.0, 1.0]), np.array([1.0])], "other": [np.array([1.0, 0.0]), np.array([0.0])]})
    answer.places = [np.array([0, 1]), np.array([2])]
    assert answer.accuracy("one") == 1
    assert answer.accuracy("other") == pytest.approx(1 / 4)  # the mean of the trials
    mean, low, high = answer.difference("one", "other")
    assert mean == pytest.approx(2 / 3)  # of the texts
    assert (low, high) == (0, 1)
    assert answer.difference("one", "one") == (0, 0, 0)


def test_a_sentence_in_two_trials_is_drawn_as_one() -> None:
    """Its two gaps are no two witnesses: the interval of the same texts twice is that of the texts."""
    gaps = np.random.default_rng(0).random(50).round()
    once, twice = ({"a": [gaps] * n, "b": [np.zeros(50)] * n} for n in (1, 2))
    places = np.arange(50)
    assert Answer(once, [places]).difference("a", "b") == pytest.approx(Answer(twice, [places, places]).difference("a", "b"))


def test_answers_about_easy_texts() -> None:
    texts = [f"{('bad', 'good')[i % 2]} {('soup', 'film', 'phone')[i // 2 % 3]} {i}" for i in range(60)]
    every = list(trials(texts, np.arange(60) % 2, [("a", "b", "c")[i // 2 % 3] for i in range(60)]))
    config = dataclasses.replace(default_config("linear"), members=1, epochs=1, buckets=64)
    chosen = [every[0], every[15], every[18]]
    for question, answer in answers(config, chosen, [0, 1]):
        assert question in ("five splits", "leave one site out", "the site as label")
        for name in ("naive Bayes", "TF-IDF", "linear"):
            assert answer.accuracy(name) == 1
        assert 0 <= answer.calibration < 0.5
