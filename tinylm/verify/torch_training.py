"""Training a translator with PyTorch instead of tinylm, all else being equal. Importing this file imports PyTorch."""

from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from tinylm import backend
from tinylm.data.pairs import Batch, Pairs
from tinylm.errors import ConfigError
from tinylm.train.translation import TranslationRun
from tinylm.train.translation_config import TranslationConfig, parameter_groups
from tinylm.verify.torch_models import TorchTranslator
from tinylm.verify.torch_optimizers import TorchMuon


class TorchTranslationRun(TranslationRun):
    """The run that TranslationRun makes of the same config, with the steps computed by PyTorch.

    Initial weights, batches, schedule, validations and the run folder are TranslationRun's own; model,
    loss, gradients, clipping and optimisers are PyTorch's, and so are the dropout masks, which therefore
    differ. The folder is like any translator's, but a stopped run cannot be resumed.
    """

    def __init__(self, config: TranslationConfig, folder: Path, pairs: Pairs) -> None:
        """Errors: ConfigError for another model than the Transformer; otherwise as TranslationRun."""
        if config.model != "transformer":
            raise ConfigError(f"model {config.model!r}: expected 'transformer', the one that PyTorch trains too")
        if config.ema:
            raise ConfigError(f"ema is {config.ema}: expected 0, since PyTorch's weights are not averaged")
        super().__init__(config, folder, pairs)
        torch.manual_seed(config.seed)
        self.torch_model = TorchTranslator(
            self.vocabulary.size, config.n_embd, config.n_head, config.n_hidden, config.n_layer, config.dropout, config.block_size
        )  # fmt: skip
        self.torch_model.to(config.device, getattr(torch, str(self.model.embedding.weight.dtype)))
        weights = {name: torch.from_numpy(backend.to_numpy(array)) for name, array in self.model.state_dict().items()}
        self.torch_model.load_state_dict(weights)  # the names are the same
        muon, decayed, plain = parameter_groups(config, self.torch_model.named_parameters())
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self.torch_optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98), fused=True)]
        if muon:
            self.torch_optimizers.append(TorchMuon(muon, lr=config.matrix_lr, weight_decay=config.weight_decay))

    def _step(self, k: int) -> tuple[Any, Any]:
        loss = self._torch_loss(self.batches[k])
        self.torch_model.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.torch_model.parameters(), self.config.clip)
        for optimizer, peak in zip(self.torch_optimizers, (self.config.lr, self.config.matrix_lr), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = self.schedule(k) * (peak / self.config.lr if self.config.lr else 1.0)
            optimizer.step()
        from_dlpack = backend.device_namespace(self.config.device).from_dlpack  # the same memory as an array
        return from_dlpack(loss.detach()), from_dlpack(norm)

    def _torch_loss(self, batch: Batch) -> torch.Tensor:
        arrays = batch.source, batch.source_lengths, batch.target_in, batch.target_out
        *inputs, target = (torch.tensor(a, device=self.config.device) for a in arrays)
        logits = self.torch_model(*inputs)
        smoothing, pad = self.config.label_smoothing, self.vocabulary.pad
        return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=pad, label_smoothing=smoothing)

    def validation_loss(self) -> float:
        """The loss of the tinylm model with the weights that PyTorch has reached, which it keeps."""
        self.model.load_state_dict({name: tensor.cpu() for name, tensor in self.torch_model.state_dict().items()})
        return super().validation_loss()

    def save(self) -> None:
        """Nothing: a checkpoint would have to hold PyTorch's optimiser and random numbers."""
