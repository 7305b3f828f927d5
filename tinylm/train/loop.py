"""The training loop: batches, gradients, updates, validations, checkpoints."""

import contextlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data import Corpus, Tokenizer
from tinylm.engine.arrays import Array, array_module
from tinylm.engine.devices import device_namespace, to_device, to_numpy
from tinylm.engine.random_keys import default_generator
from tinylm.engine.tensor import Tensor
from tinylm.errors import AnomalyError
from tinylm.models import LanguageModel
from tinylm.optim import Optimizer, Schedule
from tinylm.train.averaging import WeightAverage
from tinylm.train.distributed import Alone, Ranks, own_rows, rank_0_first
from tinylm.train.dropout_ramp import DropoutRamp
from tinylm.train.failures import describe_failure
from tinylm.train.metrics import MetricsLog, validation_loss
from tinylm.train.preparation import make_batches, prepare
from tinylm.train.progress import Progress
from tinylm.train.records import Clock, Report, log_record, summarize, validate
from tinylm.train.run_folder import RunLock, saved_checkpoints
from tinylm.train.runs import first_model, model_of, read_config, record_of, settled, tokenizer_of
from tinylm.train.saving import open_folder, save_checkpoint, save_is_due
from tinylm.train.tasks.language_model_config import RECURRENT, TrainConfig, build_model, build_optimizer, build_schedule


class Run:
    """One training run in a folder: made fresh, or resumed from its newest whole checkpoint.

    After a resume everything is as if the run had never stopped: weights, optimiser, random
    numbers, batches and logged losses, bit for bit on one machine. The folder is locked from the making of
    the object until `train` is done.
    """

    config: TrainConfig
    model: LanguageModel
    lock: RunLock
    log: MetricsLog  # rank 0's
    norm: Any  # of the last step's gradients, on the device
    _peaks: Sequence[float] = ()  # the learning rate each parameter group was made with
    ranks: Ranks = Alone()  # the processes that train together; rank 0 alone writes into the folder
    rows = slice(None)  # which of a batch's rows are this rank's

    def __init__(
        self, config: TrainConfig, folder: Path, text: str | Corpus, tokenizer: Tokenizer | None = None, resume: bool = False,
        ranks: Ranks | None = None,
    ) -> None:  # fmt: skip
        if ranks is not None:
            self.ranks, self.rows = ranks, own_rows(ranks, config.batch_size, config.accumulate)
        device_namespace(config.device)  # a missing device is reported before anything is made
        default_generator.seed(config.seed)
        model, base = None, None
        if config.init and resume:
            tokenizer = tokenizer or read_config(folder)[1]
            model = model_of(folder, config, tokenizer.vocab_size)
        elif config.init:
            model, base = first_model(config)
            config, tokenizer = settled(config, model), tokenizer or tokenizer_of(Path(config.init))
        with rank_0_first(self.ranks):  # it may make a token file, which the others then use
            self.tokenizer, self.train_ids, self.val_ids, self.bytes_per_token = prepare(config, text, tokenizer)
        batches = make_batches(config, self.train_ids)
        self._assemble(config, folder, batches, model or build_model(config, self.tokenizer.vocab_size))
        open_folder(self, resume, record_of(config, self.tokenizer, self.model, base), text)

    def _assemble(self, config: Any, folder: Path, batches: Any, model: Any) -> None:
        """What every run has, given its data and its model."""
        self.config, self.folder, self.batches, self.model = config, folder, batches, model
        self.model.to(config.device)
        self.optimizer, self.schedule = self._build_updates()
        self.dropout = DropoutRamp(self.model, getattr(config, "dropout_ramp", 0))
        self.average = WeightAverage(self.model, config.ema) if config.ema else None
        self.state: list[Tensor] | None = None  # what a recurrent model carries from batch to batch
        self.losses: Array = device_namespace(config.device).zeros((), np.float32)  # summed up since the last record
        self.progress = Progress()
        self.stop_requested = False  # set it (from a signal handler, say) to stop after the step under way
        self.searching = False  # for a failure: every step is looked at, on a GPU too
        self.clock = Clock()

    def _build_updates(self) -> tuple[Optimizer, Schedule]:
        return build_optimizer(self.config, self.model), build_schedule(self.config)

    # ---- the loop

    def train(self, report: Report = lambda record: None) -> dict[str, Any] | None:
        """Trains up to config.steps, or until config.patience is at its end, and returns the summary, which it
        also writes, with the average as the model's weights if there is one; None when it was asked to stop
        before, with a checkpoint to resume from.

        `report` gets each record that metrics.jsonl gets: every log_every steps and whenever the run validates.
        Errors: AnomalyError when a loss or the gradient norm is not finite, with the step, the parameter and the
        op; failure/ in the run folder then holds what `replay` needs, and the last checkpoint stands.
        """
        with self.lock if self.ranks.rank == 0 else contextlib.nullcontext():
            self.clock.start(self.progress.step)
            if not self.ranks.broadcast(saved_checkpoints(self.folder)):
                self.save()
            return self._train(report)

    def _train(self, report: Report) -> dict[str, Any] | None:
        config, progress = self.config, self.progress
        self.model.train()
        stopping = self.ranks.any(self.stop_requested)
        while progress.step < config.steps and not stopping and not self.out_of_patience():
            loss, self.norm = self._step(progress.step)
            self.losses = self.losses + loss  # on the device: nothing is copied until a record is due
            progress.step += 1
            step, stopping = progress.step, self.ranks.any(self.stop_requested)
            validates = step % config.eval_every == 0 or step == config.steps
            if step % config.log_every == 0 or validates:
                log_record(self, report)
            if validates:
                validate(self, report)
            if step == config.steps or save_is_due(self):
                self.save()
        if progress.step < config.steps and not self.out_of_patience():
            self.save()
            return None
        return summarize(self)

    def _step(self, k: int) -> tuple[Any, Any]:
        """One update; (loss, gradient norm) as 0-d arrays on the device."""
        before = default_generator.state, self.state
        loss = self._gradients(k)
        self.ranks.average([*self.optimizer.gradients(), loss])
        self._set_learning_rates(k)
        try:
            if self.searching or self.config.device == "cpu":
                self._look(loss)
            norm = self.optimizer.step(max_norm=self.config.clip)
        except AnomalyError as error:
            default_generator.state, self.state = before
            raise describe_failure(self, k, loss, error) from error
        if self.average:
            self.average.update(k + 1)
        return loss, norm

    def _look(self, loss: Any) -> None:
        """AnomalyError for a loss that is not finite; on a GPU for such a gradient too, which the optimiser looks at on the CPU."""
        if not np.isfinite(to_numpy(loss)):
            raise AnomalyError(f"the loss is {float(to_numpy(loss))}")
        if self.config.device != "cpu" and not np.isfinite(norm := to_numpy(self.optimizer.grad_norm())):
            raise AnomalyError(f"the gradient norm is {float(norm)}")

    def _gradients(self, k: int) -> Any:
        """The gradients of step k into the parameters' .grad, micro-batch by micro-batch; its loss, on the device."""
        self.dropout.set(k)
        self.optimizer.zero_grad()
        x, y = (a[self.rows] for a in self.batches[k])
        carried = None if self.batches.starts_afresh(k) else self.state
        cuts = [len(x) * i // self.config.accumulate for i in range(self.config.accumulate + 1)]
        total: Any = 0.0
        after = []
        for start, stop in itertools.pairwise(cuts):
            rows, share = slice(start, stop), (stop - start) / len(x)
            ids, targets = (Tensor(to_device(a[rows], self.config.device)) for a in (x, y))
            loss, state = self.model.loss(ids, targets, state_rows(carried, rows, len(x)))
            (loss if share == 1 else loss * share).backward()
            total = total + loss.data * share
            if self.config.model in RECURRENT:
                after.append(state)
        if self.config.model in RECURRENT:  # truncated backpropagation through time
            self.state = [Tensor(_joined([s.data for s in parts])) for parts in zip(*after, strict=True)]
        return array_module(total).asarray(total)

    def _set_learning_rates(self, k: int) -> None:
        """The schedule's for step k; a group whose peak differs from config.lr follows in proportion."""
        if not self._peaks:
            self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = self.schedule(k) * (peak / self.config.lr if self.config.lr else 1.0)

    def batch_arrays(self, k: int) -> dict[str, np.ndarray]:
        """The arrays of batch k by name, as `batch_of` takes them."""
        return dict(zip(("inputs", "targets"), self.batches[k], strict=True))

    @staticmethod
    def batch_of(arrays: dict[str, np.ndarray]) -> Any:
        """A batch as `batches` gives it."""
        return arrays["inputs"], arrays["targets"]

    @classmethod
    def without_data(cls, folder: Path, batches: Any) -> "Run":
        """The untrained run of a folder's config, to be restored, with these batches and without the right to write there."""
        config, tokenizer = read_config(folder)
        run = cls.__new__(cls)
        run._assemble(config, folder, batches, model_of(folder, config, tokenizer.vocab_size))
        return run

    def carried_kinds(self) -> list[tuple[Any, tuple[int, ...]]]:
        """(dtype, shape) of each array that a recurrent model carries from batch to batch."""
        c = self.config
        if c.model not in RECURRENT:
            return []
        return [(np.dtype(np.float32), (c.n_layer, c.batch_size, c.n_hidden))] * (c.members * (2 if c.model == "lstm" else 1))

    def tokens_between(self, first: int, stop: int) -> int:
        """How many tokens the steps from `first` up to `stop` train on."""
        return (stop - first) * self.config.batch_size * self.config.block_size

    def validation_loss(self) -> float:
        """The loss over the whole validation part, in nats a token."""
        return validation_loss(self.model, self.val_ids, self.config.device, block_size=self.config.block_size)

    def evaluated(self) -> contextlib.AbstractContextManager[None]:
        """Within it the model has the weights that are evaluated and saved: their average, if there is one."""
        return self.average.swapped() if self.average else contextlib.nullcontext()

    def out_of_patience(self) -> bool:
        """Whether config.patience validations in a row were no better than the best."""
        return 0 < self.config.patience <= self.progress.since_best

    def save(self) -> None:
        """A checkpoint of the run as it stands. Errors: as `save_checkpoint`."""
        save_checkpoint(self)


def state_rows(state: list[Tensor] | None, rows: slice, size: int) -> list[Tensor] | None:
    """The part of a state (layers, N, hidden) that belongs to some rows of the batch."""
    if state is None or (rows.start, rows.stop) == (0, size):
        return state
    return [Tensor(array_module(s.data).ascontiguousarray(s.data[:, rows])) for s in state]


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else array_module(parts[0]).concatenate(parts, axis=1)
