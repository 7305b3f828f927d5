"""Text classifiers: the parts of the data, the untrained and the trained model, and what it is compared with."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinylm.data.labelled import LabelledTexts, encode_words, expected_labels, pad_texts, split_labelled, train_words
from tinylm.data.tokenizers import Tokenizer
from tinylm.decode.stepping import cause_in, evaluation_mode
from tinylm.engine.random_keys import current, philox
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError, ConfigError, DataError
from tinylm.models.classifier import BagClassifier, Ensemble, LinearClassifier, TextClassifier
from tinylm.models.naive_bayes import NaiveBayes
from tinylm.models.tfidf import TfidfClassifier
from tinylm.train.tasks.class_figures import log_probabilities
from tinylm.train.tasks.classifier_config import ClassifierConfig, build_classifier, check_training_fits
from tinylm.train.tasks.loading import labels_of, load


class Split(NamedTuple):
    """A training and a test part in word ids, the vocabulary being the training part's.

    valid_texts, valid_labels: a validation part of its own; without texts, parts of the training texts are used.  shown: the
    test texts as they stand.
    """

    tokenizer: Tokenizer
    train_texts: list[np.ndarray]
    train_labels: np.ndarray
    test_texts: list[np.ndarray]
    test_labels: np.ndarray
    names: tuple[str, ...] = ("0", "1")
    valid_texts: Sequence[np.ndarray] = ()
    valid_labels: np.ndarray = np.empty(0, np.int64)
    shown: Sequence[str] = ()

    @property
    def classes(self) -> int:
        return len(self.names)


def prepare_split(data: LabelledTexts, split: int, min_count: int = 1, tokenizer: Tokenizer | None = None) -> Split:
    """Returns the parts: one of the five fixed splits, unless the data have a test part of their own; with a tokenizer of the
    training part's words if none is given.

    Raises DataError for a training part that lacks a class, and what `split_labelled` raises.
    """
    if data.test is None:
        train, test = split_labelled(len(data.texts), split)
        _check_classes(data, train, split)
        test_texts, test_labels = [data.texts[i] for i in test], data.labels[test]
    else:
        train, test_texts, test_labels = np.arange(len(data.texts)), data.test.texts, data.test.labels
    tokenizer = tokenizer or train_words([data.texts[i] for i in train], min_count)
    valid_texts, valid_labels = (data.validation.texts, data.validation.labels) if data.validation else ([], np.empty(0, np.int64))
    ids = [[encode_words(tokenizer, text) for text in part] for part in ([data.texts[i] for i in train], test_texts, valid_texts)]
    return Split(tokenizer, ids[0], data.labels[train], ids[1], test_labels, data.names, ids[2], valid_labels, test_texts)


def _check_classes(data: LabelledTexts, train: np.ndarray, split: int) -> None:
    """Raises DataError for a class without a text in the training part."""
    present = set(data.labels[train].tolist())
    if len(present) < 2:
        raise DataError(f"the training part of split {split} has one class only: {data.names[data.labels[train[0]]]!r}")
    for c, name in enumerate(data.names):
        if c not in present:
            where = np.flatnonzero(data.labels == c)
            raise DataError(
                f"the label {name!r:.40} is in the test part of split {split} only, the first time at {data.texts[where[0]]!r:.60}: "
                f"expected training texts with it too, by another split=..., more texts, or a test part of its own (test=FILE)"
            )


def validation_parts(config: ClassifierConfig, part: Split) -> list[np.ndarray]:
    """Returns for each member which training texts it is validated on and not trained on, as positions; none if the validation part has
    texts of its own, or if config.folds is 0.

    The texts are shuffled by the seed, ordered by class, and dealt out in turn, so that each part has its share of each class; all are
    equally large, and one text of each class is in none. Raises DataError if there are not enough texts for two parts.
    """
    none = np.empty(0, np.int64)
    if config.folds == 0 or len(part.valid_texts):
        return [none] * config.members
    count = len(part.train_labels)
    order = np.random.Generator(philox((config.seed, 1))).permutation(count)
    order = order[np.argsort(part.train_labels[order], kind="stable")]
    first = np.unique(part.train_labels[order], return_index=True)[1]
    dealt = np.delete(order, first)
    if len(dealt) < 2:
        raise DataError(
            f"{count} training texts of {len(first)} classes are too few to validate on some of them: expected at least {len(first) + 2}; "
            f"folds=0 trains without validation, valid=FILE takes other texts"
        )
    folds = min(config.folds, len(dealt))
    return [np.sort(dealt[m % folds :: folds][: len(dealt) // folds]) for m in range(config.members)]


def class_weights(config: ClassifierConfig, labels: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """Returns how much a text of each class counts (classes,): 1, or for "balanced" N / (K n_c), or what "neg=1,pos=2.5" says, 1 for a
    label that it does not name. Raises ConfigError for other words, an unknown label, or a weight that is not above 0."""
    weights, given = np.ones(len(names)), config.class_weights
    if given == "balanced":
        return len(labels) / (len(names) * np.maximum(np.bincount(labels, minlength=len(names)), 1))
    for entry in given.split(",") if given else ():
        label, equals, number = entry.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = float("nan")
        if not equals or not 0 < weight < float("inf"):
            raise ConfigError(
                f"class_weights has {entry!r:.60}: expected 'balanced', or LABEL=WEIGHT with a weight above 0, joined by commas"
            )
        if label not in names:
            raise ConfigError(f"class_weights names the label {label!r:.40}: expected {expected_labels(names)}")
        weights[names.index(label)] = weight
    return weights


def class_prior(config: ClassifierConfig, part: Split) -> np.ndarray:
    """Returns the probabilities of the classes before anything is read: their parts of the training texts, by weight."""
    counts = np.bincount(part.train_labels, minlength=part.classes) * class_weights(config, part.train_labels, part.names)
    return counts / counts.sum()


def start_classifier(config: ClassifierConfig, part: Split) -> Ensemble:
    """Returns an untrained model, its weights drawn from the current generator, which is seeded first; words are counted
    in the texts that a member is trained on."""
    current.generator.seed(config.seed)
    check_training_fits(config, part.tokenizer.vocab_size, part.classes)
    model = build_classifier(config, part.tokenizer.vocab_size, part.classes)
    prior = class_prior(config, part)
    for member, held in zip(model.members, validation_parts(config, part), strict=True):
        used = np.delete(np.arange(len(part.train_texts)), held)
        texts, labels = [part.train_texts[i] for i in used], part.train_labels[used]
        if isinstance(member, BagClassifier):
            member.weigh(texts, labels)
        elif isinstance(member, LinearClassifier):
            member.weigh(texts, labels, prior)
    if model.calibrated:
        model.set_prior(prior)
    return model


def logits_of(model: TextClassifier, texts: Sequence[np.ndarray], batch_size: int = 64) -> np.ndarray:
    """Returns the logits (N,), or (N, K) of more than two classes, of texts, in batches of similar lengths; the model is in evaluation
    mode meanwhile.

    Raises AnomalyError for a logit that is not finite, with the first parameter that is not.
    """
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    logits = np.empty((len(texts), model.classes) if model.classes > 2 else len(texts), np.float32)
    with evaluation_mode(model):
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids, lengths = pad_texts([texts[i] for i in rows])
            logits[rows] = model(Tensor(ids), lengths).data
    if not np.isfinite(logits).all():
        text = int(np.argmin(np.isfinite(logits).reshape(len(texts), -1).all(axis=1)))
        raise AnomalyError(f"the model's logit is {logits[text]} for text {text + 1} of {len(texts)}{cause_in(model)}")
    return logits


def said(logits: np.ndarray) -> np.ndarray:
    """Returns the class with the largest logit (N,), of two classes by the sign of the one logit that there is; equal ones say the first
    class."""
    return (logits > 0).astype(np.int64) if logits.ndim == 1 else logits.argmax(axis=1)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the part of the texts whose class `said` says."""
    return float(np.mean(said(logits) == labels))


# ---------------------------------------------------------------- what a classifier is compared with


def baselines(part: Split) -> dict[str, np.ndarray]:
    """Returns which test texts are said rightly (N,) by naive Bayes on the training part's words, and by TF-IDF of words and pairs with
    logistic regression; <unk> counts nowhere."""
    bayes = NaiveBayes(part.tokenizer.vocab_size, ignored=0, classes=part.classes).fit(part.train_texts, part.train_labels)
    tfidf = TfidfClassifier(part.tokenizer.vocab_size, part.classes).fit(part.train_texts, part.train_labels)
    odds = bayes.log_odds(part.test_texts) if part.classes == 2 else bayes.log_probabilities(part.test_texts)
    return {
        "naive Bayes": said(odds) == part.test_labels,
        "TF-IDF": tfidf.log_probabilities(part.test_texts).argmax(axis=1) == part.test_labels,
    }


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


def load_classifier(folder: str | Path) -> tuple[Ensemble, Tokenizer, tuple[str, ...]]:
    """Returns (model in evaluation mode, tokenizer, labels of the classes) of a run folder. Raises CheckpointError as `load` does."""
    model, tokenizer, _ = load(folder, ClassifierConfig)
    return model, tokenizer, labels_of(Path(folder))


def text_probabilities(model: TextClassifier, texts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns log p(c | text) of texts (N, classes), float64. Raises AnomalyError as `logits_of` does."""
    return log_probabilities(logits_of(model, texts))
