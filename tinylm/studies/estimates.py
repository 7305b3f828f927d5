"""Estimates what a training run will take, from its first steps: time, memory, and passes over its data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data import Corpus, Tokenizer
from tinylm.data.labelled import LabelledTexts
from tinylm.data.pairs import Pairs
from tinylm.studies.measured_runs import Measuring, RunEstimate, measured, spread
from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.classifier_run import ClassifierRun
from tinylm.train.tasks.classifier_task import Classification
from tinylm.train.tasks.language_model_config import TrainConfig
from tinylm.train.tasks.language_modeling import LanguageModeling, Run
from tinylm.train.tasks.token_losses import rows_at_once, validated_tokens
from tinylm.train.tasks.translation import Translation, TranslationRun
from tinylm.train.tasks.translation_config import TranslationConfig

REPEATS = 15.39  # R*_D of Muennighoff et al. 2023, arXiv:2305.16264: the number of repeats of the data after which more are worth little
TOKENS_PER_PARAMETER = 20  # Hoffmann et al. 2022, arXiv:2203.15556, table 3
GOOD_PASSES = 4  # Muennighoff et al. 2023: up to here repeated data is almost as good as new
MOST_PASSES = 1 + REPEATS  # what any number of passes is worth at most
SECONDS = 8.0  # of steps


class _LanguageModelRun(Measuring, Run):
    task: LanguageModeling

    def measured_step(self, k: int) -> int:
        return k + self.task.config.dropout_ramp  # where all of the dropout has set in

    def next_batches(self, k: int) -> range:
        return range(k, k + 1)  # all are alike

    def shorten_validation(self, tokens: float) -> float:
        task = self.task
        self.whole = task.val_ids if self.whole is None else self.whole
        at_once, least = rows_at_once(task.model, task.config.block_size)
        parts = max(least, min(int(tokens) // at_once, 32))
        task.val_ids = self.whole[: 1 + parts * at_once]
        return validated_tokens(task.model, len(self.whole)) / validated_tokens(task.model, len(task.val_ids))


class _TranslationRun(Measuring, TranslationRun):
    task: Translation

    def shorten_validation(self, tokens: float) -> float:
        if self.whole is None:
            self.whole = sorted(self.task.validation, key=lambda pair: len(pair[1]))
        every = sum(len(target) for _, target in self.whole)
        most = max(64, round(len(self.whole) * tokens / every))
        self.task.validation = [self.whole[i] for i in spread(len(self.whole), most)]
        return every / sum(len(target) for _, target in self.task.validation)


class _ClassifierRun(Measuring, ClassifierRun):
    task: Classification

    def next_batches(self, k: int) -> range:
        left = self.task.batches_per_epoch - k % self.task.batches_per_epoch  # of this epoch, whose order is drawn
        return range(k + 1, k + max(2, min(left, 200)))


@dataclass(frozen=True)
class Estimate(RunEstimate):
    """What a language model's run will take.  train_tokens: of the training part."""

    config: TrainConfig
    vocab_size: int
    train_tokens: int

    @property
    def passes(self) -> float:
        """The number of passes over the training part that the whole run makes, from its first step."""
        return self.config.steps * self.tokens_per_step / self.train_tokens

    def steps_for(self, tokens: float) -> int:
        """Returns the number of steps that read this many tokens."""
        return max(1, round(tokens / self.tokens_per_step))


def worth_in_passes(passes: float) -> float:
    """Returns how many passes over new data this many passes over the same data are worth: p up to 1, then
    1 + R (1 - exp(-(p - 1) / R)).  Muennighoff et al. 2023, equation 5, R = 15.39."""
    return passes if passes <= 1 else 1 + REPEATS * (1 - float(np.exp(-(passes - 1) / REPEATS)))


def compute_optimal(parameters: int, tokens: float) -> tuple[float, float]:
    """Returns (parameters, tokens) for the same work, which is proportional to their product, with 20 tokens per parameter."""
    best = (parameters * tokens / TOKENS_PER_PARAMETER) ** 0.5
    return best, TOKENS_PER_PARAMETER * best


def estimate(
    config: TrainConfig, folder: Path, text: str | Corpus, tokenizer: Tokenizer | None = None, *, resume: bool = False,
    seconds: float = SECONDS,
) -> Estimate:  # fmt: skip
    """Returns the estimate of a language model's run, whose first steps are made in `folder`, a temporary one.
    resume: the folder holds a copy of a run; the estimate is for its remaining steps."""
    found, run = measured(lambda: _LanguageModelRun(seconds, config, folder, text, tokenizer, resume=resume))
    settings: dict[str, Any] = {**vars(found), "config": run.task.config}  # with the shape of the model of `init`
    return Estimate(**settings, vocab_size=run.task.model.vocab_size, train_tokens=len(run.task.train_ids))


def estimate_translation(
    config: TranslationConfig, folder: Path, pairs: Pairs, *, resume: bool = False, seconds: float = SECONDS
) -> RunEstimate:  # fmt: skip
    """Returns the estimate of a translator's run, without the translations that test it at its end; arguments as of `estimate`."""
    return measured(lambda: _TranslationRun(seconds, config, folder, pairs, resume=resume))[0]


def estimate_classifier(
    config: ClassifierConfig, folder: Path, data: LabelledTexts, *, resume: bool = False, seconds: float = SECONDS
) -> RunEstimate:  # fmt: skip
    """Returns the estimate of a classifier's run and its test; arguments as of `estimate`."""
    return measured(lambda: _ClassifierRun(seconds, config, data, folder, resume=resume))[0]
