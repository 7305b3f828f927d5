"""Training runs and their folders."""

from tinylm.train.counting import Counting
from tinylm.train.loop import Run
from tinylm.train.metrics import validation_loss
from tinylm.train.runs import load_run
from tinylm.train.tasks.language_model_config import TrainConfig, default_config

__all__ = ["Counting", "Run", "TrainConfig", "default_config", "load_run", "validation_loss"]
