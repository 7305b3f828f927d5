"""The PyTorch twins of the layers and models that are checked. Importing this file imports PyTorch."""

from typing import Any

import numpy as np
import torch

from tinylm import nn
from tinylm.verify.models import MODELS, model_of
from tinylm.verify.torch import classifiers, models

_OURS = vars(models) | vars(classifiers)


def twins_of(name: str) -> tuple[nn.Module, Any, Any]:
    """Returns the model of that name, its PyTorch twin with the same weights, and the batch, as `compare` takes them."""
    ours, batch = model_of(name)
    # In the place of tinylm's classes are PyTorch's: TorchGPT for GPT, torch.nn.LSTM for nn.LSTM.
    theirs, _ = MODELS[name](lambda kind: _OURS.get(f"Torch{kind.__name__}") or getattr(torch.nn, kind.__name__))
    theirs.load_state_dict({key: torch.from_numpy(np.asarray(array)) for key, array in ours.state_dict().items()})
    return ours, theirs, batch
