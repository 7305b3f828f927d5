"""Training with PyTorch instead of tinylm, all else being equal. Importing this file imports PyTorch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from tinylm.data import Corpus
from tinylm.data.pairs import Pairs
from tinylm.data.tokenizers import Tokenizer
from tinylm.engine.devices import device_namespace, to_numpy
from tinylm.errors import ConfigError
from tinylm.models import GPTConfig, Llama
from tinylm.optim.groups import decay_groups
from tinylm.train.loop import Training
from tinylm.train.records import Report
from tinylm.train.tasks.language_model_config import RECURRENT, TrainConfig, build_model
from tinylm.train.tasks.language_modeling import Run
from tinylm.train.tasks.translation import TranslationRun
from tinylm.train.tasks.translation_config import TranslationConfig, parameter_groups
from tinylm.verify.torch.models import TorchGPT, TorchLlama, TorchRNNModel, TorchTransformerModel, TorchTranslator
from tinylm.verify.torch.optimizers import TorchMuon


class _InTorch(Training):
    """What the runs below have in common: their steps are computed by PyTorch.

    Initial weights, batches, schedule, validations and the run folder are tinylm's own; model, loss,
    gradients, clipping and optimisers are PyTorch's, and so are the dropout masks, which therefore
    differ. The folder is like any other, but a stopped run cannot be resumed.
    """

    torch_model: torch.nn.Module
    torch_optimizers: list[torch.optim.Optimizer]

    def _adopt(self, torch_model: torch.nn.Module) -> None:
        """Gives the PyTorch model the weights, dtype and device of tinylm's; the names are the same."""
        torch.manual_seed(self.config.seed)
        dtype = next(iter(self.model.parameters())).dtype
        self.torch_model = torch_model.to(self.config.device, getattr(torch, str(dtype)))
        weights: Mapping[str, torch.Tensor] = {k: torch.from_numpy(to_numpy(a)) for k, a in self.model.state_dict().items()}
        self.torch_model.load_state_dict(weights)

    def _update(self, loss: torch.Tensor, k: int) -> tuple[Any, Any]:
        """Gradients, clipping and the optimisers' step; (loss, norm of all gradients), both on the device."""
        self.torch_model.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.torch_model.parameters(), self.config.clip)
        groups = [group for optimizer in self.torch_optimizers for group in optimizer.param_groups]
        for group in groups:
            peak = group.setdefault("peak", group["lr"])
            group["lr"] = self.task.schedule(k) * (peak / self.config.lr if self.config.lr else 1.0)
        for optimizer in self.torch_optimizers:
            optimizer.step()
        from_dlpack = device_namespace(self.config.device).from_dlpack  # the same memory as an array
        return from_dlpack(loss.detach()), from_dlpack(norm)

    def validate(self, report: Report) -> None:
        """As Training.validate, with the weights that PyTorch has reached, which the tinylm model keeps."""
        self._take_weights()
        super().validate(report)

    def _take_weights(self) -> None:
        self.model.load_state_dict({name: tensor.cpu() for name, tensor in self.torch_model.state_dict().items()})

    def sample(self, report: Report) -> None:
        """As Training.sample, with the weights that PyTorch has reached."""
        self._take_weights()
        super().sample(report)

    def save(self) -> None:
        """Nothing: a checkpoint would have to hold PyTorch's optimiser and random numbers."""


class TorchRun(_InTorch, Run):
    """The run that `Run` makes of the same config, with the steps computed by PyTorch."""

    def __init__(self, config: TrainConfig, folder: Path, text: str | Corpus, tokenizer: Tokenizer | None = None) -> None:
        """Raises ConfigError for what PyTorch's models lack, see `torch_language_model`; otherwise as Run."""
        torch_language_model(config, 1)  # refused before anything is written
        super().__init__(config, folder, text, tokenizer)
        self._adopt(torch_language_model(config, self.task.tokenizer.vocab_size))
        groups = decay_groups(self.torch_model.parameters(), config.weight_decay)
        self.torch_optimizers = [torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)]
        self.carried: Any = None  # what a recurrent model carries from batch to batch

    def train_step(self, k: int) -> tuple[Any, Any]:
        x, y = (torch.tensor(a, device=self.config.device) for a in self.task.batches[k])
        if self.task.config.model in RECURRENT:
            logits, self.carried = self.torch_model(x.T, None if self.task.starts_afresh(k) else self.carried)
            several = isinstance(self.carried, tuple)
            self.carried = tuple(s.detach() for s in self.carried) if several else self.carried.detach()
        else:
            logits = self.torch_model(x.T if self.task.config.model == "transformer" else x)
        targets = y if self.task.config.model in ("gpt", "llama") else y.T
        return self._update(F.cross_entropy(logits.flatten(0, 1), targets.flatten()), k)


def torch_language_model(config: TrainConfig, vocab_size: int) -> torch.nn.Module:
    """Returns the untrained model of `build_model` in PyTorch.

    Raises ConfigError for what it does not have: an n-gram model, several members, a dropout ramp, averaged
    weights, a trained model to begin with, rounded products, and the sigmoid.
    """
    for setting, plain in (("members", 1), ("dropout_ramp", 0), ("ema", 0.0), ("init", ""), ("precision", "float32")):
        if vars(config)[setting] != plain:
            raise ConfigError(f"{setting} is {vars(config)[setting]!r}: expected {plain!r}, the one that PyTorch trains too")
    if config.model == "gpt":
        shape: dict[str, Any] = {"n_layer": config.n_layer, "n_head": config.n_head, "n_embd": config.n_embd, "bias": config.bias}
        return TorchGPT(GPTConfig(vocab_size=vocab_size, block_size=config.block_size, dropout=config.dropout, **shape))
    if config.model == "llama":
        llama = build_model(config, vocab_size)
        assert isinstance(llama, Llama)
        return TorchLlama(llama.config)
    if config.model == "transformer":
        return TorchTransformerModel(vocab_size, config.n_embd, config.n_head, config.n_hidden, config.n_layer, config.dropout)
    if config.model == "ngram" or (config.model == "rnn" and config.nonlinearity == "sigmoid"):
        what = "model 'ngram'" if config.model == "ngram" else "nonlinearity 'sigmoid'"
        raise ConfigError(f"{what}: PyTorch has none")
    return TorchRNNModel(
        config.model, vocab_size, config.n_embd, config.n_hidden, config.n_layer, config.dropout, config.nonlinearity, config.input_dropout
    )  # fmt: skip


class TorchTranslationRun(_InTorch, TranslationRun):
    """The run that TranslationRun makes of the same config, with the steps computed by PyTorch."""

    def __init__(self, config: TranslationConfig, folder: Path, pairs: Pairs) -> None:
        """Raises ConfigError for another model than the Transformer, averaged weights and rounded products; otherwise as TranslationRun."""
        if config.model != "transformer":
            raise ConfigError(f"model {config.model!r}: expected 'transformer', the one that PyTorch trains too")
        if config.ema:
            raise ConfigError(f"ema is {config.ema}: expected 0, since PyTorch's weights are not averaged")
        if config.precision != "float32":
            raise ConfigError(f"precision is {config.precision!r}: expected 'float32', in which PyTorch trains")
        super().__init__(config, folder, pairs)
        sizes = config.n_embd, config.n_head, config.n_hidden, config.n_layer, config.dropout, config.block_size
        self._adopt(TorchTranslator(self.task.vocabulary.size, *sizes))
        muon, rest = ([p for _, p in pairs] for pairs in parameter_groups(config, self.torch_model.named_parameters()))
        groups = decay_groups(rest, config.weight_decay)
        self.torch_optimizers = [torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=True)]
        if muon:
            self.torch_optimizers.append(TorchMuon(muon, lr=config.matrix_lr, weight_decay=config.weight_decay))

    def train_step(self, k: int) -> tuple[Any, Any]:
        batch = self.task.batches[k]
        arrays = batch.source, batch.source_lengths, batch.target_in, batch.target_out
        *inputs, target = (torch.tensor(a, device=self.config.device) for a in arrays)
        logits = self.torch_model(*inputs)
        smoothing, pad = self.task.config.label_smoothing, self.task.vocabulary.pad
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=pad, label_smoothing=smoothing)
        return self._update(loss, k)
