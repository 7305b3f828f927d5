"""Training runs and their folders."""

from tinylm.train.tasks.language_model_config import TrainConfig, default_config
from tinylm.train.tasks.language_modeling import Counting, Run
from tinylm.train.tasks.loading import load_run
from tinylm.train.tasks.token_losses import validation_loss

__all__ = ["Counting", "Run", "TrainConfig", "default_config", "load_run", "validation_loss"]
