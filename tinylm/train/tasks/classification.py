"""Text classifiers: the splits, the untrained and the trained model, and how good it is."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinylm.data.labelled import LabelledTexts, encode_words, pad_texts, split_labelled, train_words
from tinylm.data.tokenizers import Tokenizer
from tinylm.decode.stepping import cause_in, evaluation_mode
from tinylm.engine.random_keys import current
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, CheckpointError, DataError
from tinylm.models.classifier import BagClassifier, Ensemble, TextClassifier
from tinylm.models.naive_bayes import NaiveBayes
from tinylm.train.tasks.classifier_config import ClassifierConfig, build_classifier, check_training_fits
from tinylm.train.tasks.loading import load, read_record


class Split(NamedTuple):
    """A training and a test part in word ids, the vocabulary being the training part's."""

    tokenizer: Tokenizer
    train_texts: list[np.ndarray]
    train_labels: np.ndarray
    test_texts: list[np.ndarray]
    test_labels: np.ndarray


def prepare_split(data: LabelledTexts, split: int, min_count: int = 1, tokenizer: Tokenizer | None = None) -> Split:
    """Returns one of the five fixed splits, with a tokenizer of the training part's words if none is given.

    Raises DataError for a training part of one class, and what `split_labelled` raises.
    """
    train, test = split_labelled(len(data.texts), split)
    if len(set(data.labels[train].tolist())) < 2:
        raise DataError(f"the training part of split {split} has one class only: {data.names[data.labels[train[0]]]!r}")
    tokenizer = tokenizer or train_words([data.texts[i] for i in train], min_count)
    parts = [[encode_words(tokenizer, data.texts[i]) for i in part] for part in (train, test)]
    return Split(tokenizer, parts[0], data.labels[train], parts[1], data.labels[test])


def start_classifier(config: ClassifierConfig, part: Split) -> Ensemble:
    """Returns an untrained model, its weights drawn from the current generator, which is seeded first; a bag's ratios are counted
    in the training part."""
    current.generator.seed(config.seed)
    check_training_fits(config, part.tokenizer.vocab_size)
    model = build_classifier(config, part.tokenizer.vocab_size)
    for member in model.members:
        if isinstance(member, BagClassifier):
            member.weigh(part.train_texts, part.train_labels)
    return model


def logits_of(model: TextClassifier, texts: Sequence[np.ndarray], batch_size: int = 64) -> np.ndarray:
    """Returns the logits (N,) of texts, in batches of similar lengths; the model is in evaluation mode meanwhile.

    Raises AnomalyError for a logit that is not finite, with the first parameter that is not.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    logits = np.empty(len(texts), np.float32)
    with evaluation_mode(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids, lengths = pad_texts([texts[i] for i in rows])
            logits[rows] = model(Tensor(ids), lengths).data
    if not np.isfinite(logits).all():
        text = int(np.argmin(np.isfinite(logits)))
        raise AnomalyError(f"the model's logit is {logits[text]} for text {text + 1} of {len(texts)}{cause_in(model)}")
    return logits


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the part of the texts on whose class the sign of the logit is right; a logit of 0 says class 0."""
    return float(np.mean((logits > 0) == (labels == 1)))


# ---------------------------------------------------------------- against naive Bayes


def naive_bayes_accuracy(part: Split) -> float:
    """Returns what naive Bayes on the training part's words gets on the test part; <unk> counts nowhere."""
    model = NaiveBayes(part.tokenizer.vocab_size, ignored=0).fit(part.train_texts, part.train_labels)
    return accuracy(model.log_odds(part.test_texts), part.test_labels)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Returns (mean, low, high): m ± t s / √n, Student's interval for the mean of n ≥ 2 values.

    Of paired differences it is the interval of the mean difference. The test parts of the five
    splits overlap, so that theirs is somewhat too narrow (Nadeau & Bengio 2003).
    """
    from scipy import stats

    x = np.asarray(values, float)
    half = float(stats.t.ppf((1 + confidence) / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x)))
    return float(x.mean()), float(x.mean()) - half, float(x.mean()) + half


# ---------------------------------------------------------------- run folders


def load_classifier(folder: str | Path) -> tuple[Ensemble, Tokenizer, tuple[str, str]]:
    """Returns (model in evaluation mode, tokenizer, labels of class 0 and 1) of a run folder. Raises CheckpointError as `load` does."""
    folder = Path(folder)
    model, tokenizer, _ = load(folder, ClassifierConfig)
    names = read_record(folder).get("labels")
    if not (isinstance(names, list) and len(names) == 2 and all(isinstance(name, str) for name in names)):
        raise CheckpointError(f"{folder / 'config.json'} is damaged: labels are {names!r}")
    return model, tokenizer, (names[0], names[1])


def text_probabilities(model: TextClassifier, texts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns log p(c | text) of texts (N, classes), float64. Raises AnomalyError as `logits_of` does."""
    logits = logits_of(model, texts).astype(np.float64)
    return -np.logaddexp(0, np.stack([logits, -logits], axis=1))
