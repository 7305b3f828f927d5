"""Training runs and their folders."""

from tinylm.train.tasks.language_model_config import TrainConfig as TrainConfig
from tinylm.train.tasks.language_model_config import default_config as default_config
from tinylm.train.tasks.language_modeling import Counting as Counting
from tinylm.train.tasks.language_modeling import Run as Run
from tinylm.train.tasks.loading import load_run as load_run
from tinylm.train.tasks.token_losses import validation_loss as validation_loss
