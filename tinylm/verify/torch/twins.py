"""The PyTorch twins of the layers and models that are checked. Importing this file imports PyTorch."""

from typing import Any

import numpy as np
import torch

from tinylm import nn
from tinylm.models import GPT, Llama, RNNModel, TransformerModel
from tinylm.models.classifier import BagClassifier, Ensemble, LSTMClassifier, TransformerClassifier
from tinylm.models.translator import RecurrentTranslator, Translator
from tinylm.verify.models import MODELS, model_of
from tinylm.verify.torch import classifiers, models

CLASSES: dict[type[nn.Module], Any] = {
    GPT: models.TorchGPT,
    Llama: models.TorchLlama,
    TransformerModel: models.TorchTransformerModel,
    RNNModel: models.TorchRNNModel,
    Translator: models.TorchTranslator,
    RecurrentTranslator: models.TorchRecurrentTranslator,
    BagClassifier: classifiers.TorchBagClassifier,
    LSTMClassifier: classifiers.TorchLSTMClassifier,
    TransformerClassifier: classifiers.TorchTransformerClassifier,
    Ensemble: classifiers.TorchEnsemble,
}


def twins_of(name: str) -> tuple[nn.Module, Any, Any]:
    """Returns the model of that name, its PyTorch twin with the same weights, and the batch, as `compare` takes them."""
    ours, batch = model_of(name)
    theirs, _ = MODELS[name](lambda kind: CLASSES[kind] if kind in CLASSES else getattr(torch.nn, kind.__name__))
    theirs.load_state_dict({key: torch.from_numpy(np.asarray(array)) for key, array in ours.state_dict().items()})
    return ours, theirs, batch
