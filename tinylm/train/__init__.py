"""Training runs and their folders."""

from tinylm.train.counting import Counting as Counting
from tinylm.train.loop import Run as Run
from tinylm.train.metrics import validation_loss as validation_loss
from tinylm.train.runs import load_run as load_run
from tinylm.train.tasks.language_model_config import TrainConfig as TrainConfig
from tinylm.train.tasks.language_model_config import default_config as default_config
