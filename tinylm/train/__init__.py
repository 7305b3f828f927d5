"""Training runs and their folders."""

from tinylm.train.tasks.classifier_config import ClassifierConfig
from tinylm.train.tasks.fitting import FittedClassifier, FittedTranslator, fit_classifier, fit_translator
from tinylm.train.tasks.language_model_config import TrainConfig, default_config
from tinylm.train.tasks.language_modeling import Counting, Run
from tinylm.train.tasks.loading import load_run
from tinylm.train.tasks.token_losses import validation_loss
from tinylm.train.tasks.translation_config import TranslationConfig

__all__ = [
    "ClassifierConfig", "Counting", "FittedClassifier", "FittedTranslator", "Run", "TrainConfig", "TranslationConfig", "default_config",
    "fit_classifier", "fit_translator", "load_run", "validation_loss",
]  # fmt: skip
