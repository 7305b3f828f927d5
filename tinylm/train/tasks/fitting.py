"""A classifier or a translator in one call, from texts in Python; what it leaves is a run folder like any other."""

import dataclasses
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np

from tinylm.data.labelled import encode_words, split_labelled
from tinylm.data.pairs import Pair
from tinylm.errors import CheckpointError, ConfigError, DataError
from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import read_json
from tinylm.files.regular_files import exists, open_regular
from tinylm.train.loop import Training
from tinylm.train.run_folder import RunLock, remove_run
from tinylm.train.tasks.class_figures import figures_of
from tinylm.train.tasks.classification import load_classifier, text_probabilities
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.given_texts import checked_labelled, checked_pairs, checked_texts, labelled_data, pairs_data
from tinylm.train.tasks.loading import read_record
from tinylm.train.tasks.translation import TranslationRun, load_translator, score
from tinylm.train.tasks.translation_config import TranslationConfig
from tinylm.train.watching.descriptions import Described, described_model

C = TypeVar("C", ClassifierConfig, TranslationConfig)
IN_PYTHON = "given in Python"  # the `data` of a run whose texts no file has


class Fitted(Described):
    """A trained model, and the run folder that it is from: after a fit a temporary one, which goes with the object."""

    model: Any

    def __init__(self, folder: Path, temporary: bool = False) -> None:
        self._folder, self._temporary = folder, temporary
        self.kind = str(read_record(folder)["train"]["model"])
        self.summary: dict[str, Any] = read_json(folder / "summary.json") if exists(folder / "summary.json") else {}
        if temporary:
            weakref.finalize(self, shutil.rmtree, folder.parent, ignore_errors=True)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Returns the model of a run folder: of one that `save` wrote, or a command. Raises CheckpointError for any other folder."""
        return cls(Path(folder))

    def save(self, folder: str | Path, overwrite: bool = False) -> None:
        """Writes the run into a new folder, which the commands and `load` read, and in which the training can go on.

        overwrite: also into a folder that holds a run already, which is then gone.
        Raises CheckpointError for a folder that holds a run already, is in use, or cannot be written.
        """
        copy_run(self._folder, Path(folder), overwrite)

    def facts(self) -> dict[str, str]:
        names = {"accuracy": "accuracy on the test part", "val_loss": "validation loss"}
        found = {name: f"{self.summary[key]:.4f}" for key, name in names.items() if isinstance(self.summary.get(key), float)}
        folder = "not saved yet" if self._temporary else str(self._folder)
        return {"model": described_model(self.kind, self.model), **found, "folder": folder}


class FittedClassifier(Fitted):
    """A trained classifier of texts: what `fit_classifier` returns, and `FittedClassifier.load` of a classifier's run folder.

    labels: those that it tells apart, as text.  held_out: (texts, labels) that it was not trained on; none after `load`.
    summary: what summary.json says of the training.
    """

    def __init__(self, folder: Path, temporary: bool = False, held_out: tuple[list[str], list[str]] | None = None) -> None:
        self.model, self.tokenizer, self.labels = load_classifier(folder)
        self.held_out = held_out or ([], [])
        super().__init__(folder, temporary)

    def predict(self, texts: Iterable[str]) -> list[str]:
        """Returns the most likely label of each text. Raises DataError for what is no text, or one without a word."""
        return [self.labels[c] for c in self.probabilities(texts).argmax(axis=1)]

    def probabilities(self, texts: Iterable[str]) -> np.ndarray:
        """Returns the probability of each of the `labels`, (texts, labels), float64. Raises DataError as `predict` does."""
        ids = [self._encoded(i, text) for i, text in enumerate(checked_texts(texts))]
        return np.exp(text_probabilities(self.model, ids)) if ids else np.zeros((0, len(self.labels)))

    def _encoded(self, number: int, text: str) -> np.ndarray:
        try:
            return encode_words(self.tokenizer, text)
        except DataError as error:
            raise DataError(f"texts[{number}]: {error}") from error

    def evaluate(self, texts: Iterable[str], labels: Iterable[Any]) -> dict[str, Any]:
        """Returns the figures of `figures_of`: "texts", "accuracy" and its interval, those of each label, "log_loss" and others.

        Raises DataError as `predict` does, for a label that the classifier does not know, and for no text.
        """
        given, expected = checked_labelled(texts, labels)
        if unknown := next((label for label in expected if label not in self.labels), None):
            raise DataError(f"the label {unknown!r:.60} is not one that the classifier tells apart: {', '.join(self.labels):.200}")
        ids = [self._encoded(i, text) for i, text in enumerate(given)]
        numbers = np.array([self.labels.index(label) for label in expected], np.int64)
        return figures_of(text_probabilities(self.model, ids), numbers, self.labels)

    def facts(self) -> dict[str, str]:
        model, *others = super().facts().items()
        return dict([model, ("labels", f"{', '.join(self.labels):.200}"), *others])


class FittedTranslator(Fitted):
    """A trained translator of sentences: what `fit_translator` returns, and `FittedTranslator.load` of a translator's run folder.

    translator: it, with the settings of its search.  held_out: the pairs of the test part, which it was neither trained nor validated
    on; none after `load`.  summary: what summary.json says of the training.
    """

    def __init__(self, folder: Path, temporary: bool = False, held_out: Sequence[Pair] = (), device: str = "cpu") -> None:
        self.translator = load_translator(folder, device)
        self.model, self.held_out = self.translator.model, list(held_out)
        super().__init__(folder, temporary)

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu") -> Self:
        """Returns the translator of a run folder, on a device. Raises CheckpointError for any other folder; DeviceError."""
        return cls(Path(folder), device=device)

    def predict(self, sources: Iterable[str], beams: int = 4) -> list[str]:
        """Returns the translation of each sentence by beam search; by greedy decoding for one beam.

        Raises DataError for what is no text, an empty one, or one longer than the model's block; ConfigError for less than one beam.
        """
        return [self._translation(i, source, beams) for i, source in enumerate(checked_texts(sources))]

    def _translation(self, number: int, source: str, beams: int) -> str:
        try:
            return self.translator.translate(source, beams)
        except DataError as error:
            raise DataError(f"texts[{number}]: {error}") from error

    def evaluate(self, pairs: Iterable[Pair], beams: int = 4) -> dict[str, Any]:
        """Returns {"sentences": how many were translated, "left_out": how many sources are longer than the model's block,
        "bleu", "chrf": corpus BLEU (13a tokens) and chrF of the translations, from 0 to 100}; the case counts, unless the translator
        writes lower case alone (`lower`).

        Raises DataError for what is no pair of texts, and if no source is short enough; ConfigError for less than one beam.
        """
        given = checked_pairs(pairs)
        chosen = [pair for pair in given if self.translator.fits(pair[0])]
        if not chosen:
            raise DataError(f"none of the {len(given)} pairs has a source of at most {self.translator.block_size} tokens")
        said = self.predict([source for source, _ in chosen], beams)
        scores = score(said, [target for _, target in chosen], self.translator.vocabulary.lower)
        return {"sentences": len(chosen), "left_out": len(given) - len(chosen), **scores}


# ---------------------------------------------------------------- fitting


def fit_classifier(texts: Iterable[str], labels: Iterable[Any], config: ClassifierConfig | None = None) -> FittedClassifier:
    """Trains a classifier on labelled texts and returns it: `scripts/classify.py train` in one call.

    labels: one for each text; text, or whole numbers, which become text. Four fifths of the texts are trained on, and the rest, one of
    five fixed splits, is `held_out`. config: by default the settings of `classify.py train`; those of another model come from
    `ClassifierConfig.of_model("lstm")`. In a terminal and in a notebook a progress bar is shown.
    Raises DataError for texts and labels that do not fit together, or too few of them; ConfigError.

    >>> texts, labels = ["a fine film", "a poor film"] * 20, ["good", "bad"] * 20
    >>> classifier = tinylm.train.fit_classifier(texts, labels, tinylm.train.ClassifierConfig(members=1, buckets=64, lr=0.1))
    >>> classifier.predict(["fine food", "poor food"])
    ['good', 'bad']
    >>> classifier.evaluate(*classifier.held_out)["texts"]
    8
    """
    data = labelled_data(texts, labels)
    settings = _given_in_python(config or ClassifierConfig.of_model(ClassifierConfig.model))
    test = split_labelled(len(data.texts), settings.split)[1]
    held_out = [data.texts[i] for i in test], [data.names[data.labels[i]] for i in test]
    return FittedClassifier(_trained(lambda folder: ClassifierRun(settings, data, folder)), True, held_out)


def fit_translator(pairs: Iterable[Pair], config: TranslationConfig | None = None) -> FittedTranslator:
    """Trains a translator on pairs (source, target) and returns it: `scripts/translate.py train` in one call, without its test.

    Of the pairs 90 % are trained on, 5 % validate, and 5 % are `held_out`. config: by default the settings of `translate.py train`,
    7,000 steps; fewer are `TranslationConfig(steps=1000, schedule_steps=1000)`, another model's are `TranslationConfig.of_model("lstm")`.
    In a terminal and in a notebook a progress bar is shown.
    Raises DataError for what is no pair of texts, for fewer than three pairs, or if all are too long; ConfigError.
    """
    data = pairs_data(pairs)
    settings = _given_in_python(config or TranslationConfig.of_model(TranslationConfig.model))
    return FittedTranslator(_trained(lambda folder: TranslationRun(settings, folder, data)), True, data.test, settings.device)


def _given_in_python(config: C) -> C:
    """Returns the settings of a run whose data no file has. Raises ConfigError if they name a file for a part of the data."""
    for name in ("valid", "test"):
        if file := vars(config)[name]:
            raise ConfigError(f"{name} is {file!r:.80}: expected none, since all parts are taken from what is given")
    return dataclasses.replace(config, data=IN_PYTHON)


def _trained(made: Callable[[Path], Training]) -> Path:
    """Returns the folder of a run that `made` makes there, trained: a temporary one, which is removed if anything fails."""
    parent = Path(tempfile.mkdtemp(prefix="tinylm-"))
    try:
        made(parent / "run").train()
    except BaseException:
        shutil.rmtree(parent, ignore_errors=True)
        raise
    return parent / "run"


def copy_run(source: Path, folder: Path, overwrite: bool = False) -> None:
    """Copies the files of a run into another folder, config.json last: with it the folder holds a run.

    Raises CheckpointError if that one holds a run already (and must not be overwritten), is in use, or cannot be written.
    """
    if not exists(source / "config.json"):
        raise CheckpointError(f"the run in {source} is gone, so it cannot be saved again")
    if folder.resolve() == source.resolve():
        raise CheckpointError(f"the run is in {folder} already: choose another folder")
    with RunLock(folder):
        if exists(folder / "config.json"):
            if not overwrite:
                raise CheckpointError(f"{folder} holds a run already: choose another folder, or give overwrite=True")
            remove_run(folder)
        found = [path for path in sorted(source.rglob("*")) if path.is_file() and path.name != "lock"]
        for path in sorted(found, key=lambda path: path.name == "config.json"):
            with open_regular(path) as file:
                write_atomically(folder / path.relative_to(source), file.read())
