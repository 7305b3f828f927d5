"""The training loop: batches, gradients, updates, validations, checkpoints."""

import contextlib
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinylm import backend
from tinylm.backend import Array, array_module
from tinylm.data import Corpus, ParallelStreams, ShuffledBlocks, Tokenizer, split_text, train_tokenizer
from tinylm.data.encoding import learn_tokenizer, token_ids
from tinylm.errors import AnomalyError, CheckpointError, DataError
from tinylm.models import LanguageModel
from tinylm.optim import Optimizer, Schedule
from tinylm.random_streams import default_generator
from tinylm.tensor import Tensor
from tinylm.train.averaging import WeightAverage
from tinylm.train.checkpoints import model_arrays, write_arrays, write_json
from tinylm.train.config import TrainConfig, build_model, build_optimizer, build_schedule
from tinylm.train.distributed import Alone, Ranks, check_same_weights, own_rows, rank_0_first, separate_draws
from tinylm.train.dropout_ramp import DropoutRamp
from tinylm.train.failures import describe_failure, find_failure
from tinylm.train.gradient_norms import gradient_norms
from tinylm.train.metrics import MetricsLog, memory_mb, validation_loss
from tinylm.train.progress import Progress, finish
from tinylm.train.run_folder import RunLock, checkpoint_path, keep_newest, newest_whole, refuse_used, saved_checkpoints
from tinylm.train.runs import first_model, read_config, settled, tokenizer_of
from tinylm.train.snapshots import restore, snapshot

Report = Callable[[dict[str, Any]], None]
RECURRENT = ("rnn", "lstm", "gru")


def prepare(
    config: TrainConfig, text: str | Corpus, tokenizer: Tokenizer | None
) -> tuple[Tokenizer, np.ndarray, np.ndarray, float]:  # fmt: skip
    """(tokenizer, training ids, validation ids, validation bytes a token). Of a string the last tenth validates."""
    if isinstance(text, str):
        train_text, val_text = split_text(text)
        if tokenizer is None:
            source = text if config.tokenizer == "char" else train_text  # an unknown character could not be scored at all
            tokenizer = train_tokenizer(config.tokenizer, source, min_count=config.min_count, vocab_size=config.bpe_size)
        train_ids = tokenizer.encode(train_text)
    else:
        val_text = "".join(text.validation)
        if tokenizer is None:
            tokenizer = learn_tokenizer(config.tokenizer, text, config.min_count, config.bpe_size)
        train_ids = token_ids(text.train, tokenizer)
    val_ids = tokenizer.encode(val_text)
    what, needed = ("order", config.order) if config.model == "ngram" else ("block_size", config.block_size + 1)
    if len(train_ids) < needed or len(val_ids) < 2:
        raise DataError(
            f"the data is too short: {len(train_ids)} tokens for training, where {what} {getattr(config, what)} needs {needed}, "
            f"and {len(val_ids)} for validation, which needs 2"
        )
    scored = len(val_text.encode("utf-8")) - tokenizer.first_bytes(val_text)  # the first token has nothing before it
    return tokenizer, train_ids, val_ids, scored / (len(val_ids) - 1)


def start_folder(folder: Path, record: dict[str, Any], text: str | Corpus) -> None:
    """Makes the run folder with its config.json, and for a corpus its note, data.json."""
    write_json(folder / "config.json", record)
    if isinstance(text, Corpus):
        write_json(folder / "data.json", text.to_json())


class Run:
    """One training run in a folder: made fresh, or resumed from its newest whole checkpoint.

    After a resume everything is as if the run had never stopped: weights, optimiser, random
    numbers, batches and logged losses, bit for bit on one machine. The folder is locked from the making of
    the object until `train` is done.
    """

    config: TrainConfig
    model: LanguageModel
    _peaks: Sequence[float] = ()  # the learning rate each parameter group was made with
    ranks: Ranks = Alone()  # the processes that train together; rank 0 alone writes into the folder
    rows = slice(None)  # which of a batch's rows are this rank's

    def __init__(
        self, config: TrainConfig, folder: Path, text: str | Corpus, tokenizer: Tokenizer | None = None, resume: bool = False,
        ranks: Ranks | None = None,
    ) -> None:  # fmt: skip
        if ranks is not None:
            self.ranks, self.rows = ranks, own_rows(ranks, config.batch_size, config.accumulate)
        backend.device_namespace(config.device)  # a missing device is reported before anything is made
        default_generator.seed(config.seed)
        model = first_model(config, 0) if config.init else None
        if model is not None:
            config, tokenizer = settled(config, model), tokenizer or tokenizer_of(Path(config.init))
        with rank_0_first(self.ranks):  # it may make a token file, which the others then use
            self.tokenizer, self.train_ids, self.val_ids, self.bytes_per_token = prepare(config, text, tokenizer)
        kind = ParallelStreams if config.model in RECURRENT else ShuffledBlocks
        batches = kind(self.train_ids, config.block_size, config.batch_size, config.seed)
        self._assemble(config, folder, batches, model or build_model(config, self.tokenizer.vocab_size))
        record = {"train": config.to_json(), "tokenizer": None if config.init else self.tokenizer.to_json()}  # it is the other model's
        self._open(resume, record, text)

    def _assemble(self, config: Any, folder: Path, batches: Any, model: Any) -> None:
        """What every run has, given its data and its model."""
        self.config, self.folder, self.batches, self.model = config, folder, batches, model
        self.model.to(config.device)
        self.optimizer, self.schedule = self._build_updates()
        self.dropout = DropoutRamp(self.model, getattr(config, "dropout_ramp", 0))
        self.average = WeightAverage(self.model, config.ema) if config.ema else None
        self.state: list[Tensor] | None = None  # what a recurrent model carries from batch to batch
        self.losses: Array = backend.device_namespace(config.device).zeros((), np.float32)  # summed up since the last record
        self.progress = Progress()
        self.stop_requested = False  # set it (from a signal handler, say) to stop after the step under way
        self.searching = False  # for a failure: every step is looked at, on a GPU too
        self._start_clock()

    def _build_updates(self) -> tuple[Optimizer, Schedule]:
        return build_optimizer(self.config, self.model), build_schedule(self.config)

    def _open(self, resume: bool, record: dict[str, Any], text: str | Corpus = "") -> None:
        """Takes the folder: restores the newest checkpoint, or writes the record as config.json, and data.json.

        Errors: CheckpointError when another process has it, or when it holds a run already.
        """
        self.lock = RunLock(self.folder)
        writes = self.ranks.rank == 0
        with rank_0_first(self.ranks):  # what it sets aside, the others do not meet
            if writes:
                if not resume:
                    refuse_used(self.folder)
                self.lock.acquire()
            try:
                if resume:
                    self._restore(set_aside=writes)
                elif writes:
                    start_folder(self.folder, record, text)
                if writes:
                    self.log = MetricsLog(self.folder / "metrics.jsonl", self.progress.step)
            except CheckpointError:
                self.lock.release()
                raise
        separate_draws(self.ranks, default_generator)
        check_same_weights(self.ranks, self.model, "at the start")

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
            self._start_clock()
            if not self.ranks.broadcast(saved_checkpoints(self.folder)):
                self.save()
            return self._train(report)

    def _train(self, report: Report) -> dict[str, Any] | None:
        config, progress = self.config, self.progress
        self.model.train()
        stopping = self.ranks.any(self.stop_requested)
        while progress.step < config.steps and not stopping and not self.out_of_patience():
            loss, self._norm = self._step(progress.step)
            self.losses = self.losses + loss  # on the device: nothing is copied until a record is due
            progress.step += 1
            step, stopping = progress.step, self.ranks.any(self.stop_requested)
            validates = step % config.eval_every == 0 or step == config.steps
            if step % config.log_every == 0 or validates:
                self._log(report)
            if validates:
                self._validate(report)
            if step == config.steps or self._save_is_due():
                self.save()
        if progress.step < config.steps and not self.out_of_patience():
            self.save()
            return None
        return self._summary()

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
        if not np.isfinite(backend.to_numpy(loss)):
            raise AnomalyError(f"the loss is {float(backend.to_numpy(loss))}")
        if self.config.device != "cpu" and not np.isfinite(norm := backend.to_numpy(self.optimizer.grad_norm())):
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
            ids, targets = (Tensor(backend.to_device(a[rows], self.config.device)) for a in (x, y))
            loss, state = self.model.loss(ids, targets, _rows(carried, rows, len(x)))
            (loss if share == 1 else loss * share).backward()
            total = total + loss.data * share
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
        run._assemble(config, folder, batches, first_model(config, tokenizer.vocab_size))
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

    # ---- records and validations

    def _log(self, report: Report) -> None:
        """A record of the steps since the last one, which must have been finite."""
        progress, step = self.progress, self.progress.step
        mean, norm = (float(backend.to_numpy(a)) for a in (self.losses / (step - progress.logged_step), self._norm))
        self._require_finite(mean, norm)
        speed = self._count_seconds()
        self._record(
            report, step=step, loss=mean, lr=self.schedule(step - 1), grad_norm=norm, grad_norms=gradient_norms(self.model),
            tokens_per_second=speed, train_seconds=progress.train_seconds, memory_mb=memory_mb(self.config.device),
        )  # fmt: skip
        self.losses, progress.logged_step = self.losses * 0, step
        self._mark, self._mark_step = time.perf_counter(), step

    def _require_finite(self, loss: float, norm: float) -> None:
        if not (np.isfinite(loss) and np.isfinite(norm)):  # found late: on a GPU not every step is looked at
            raise find_failure(self, loss, norm)

    def _start_clock(self) -> None:
        self._mark, self._mark_step, self._saved = time.perf_counter(), self.progress.step, time.monotonic()

    def _count_seconds(self) -> float:
        """Adds the seconds since the clock was started to those of the training; tokens a second meanwhile."""
        elapsed = time.perf_counter() - self._mark
        self.progress.train_seconds += elapsed
        return self.tokens_between(self._mark_step, self.progress.step) / elapsed

    def validation_loss(self) -> float:
        """The loss over the whole validation part, in nats a token."""
        return validation_loss(self.model, self.val_ids, self.config.device, block_size=self.config.block_size)

    def _record(self, report: Report, **record: Any) -> None:
        if self.ranks.rank == 0:
            self.log.write(record)
            report(record)

    def _validate(self, report: Report) -> None:
        step, progress = self.progress.step, self.progress
        drawn = default_generator.state
        with self._evaluated():
            loss = progress.val_loss = self.ranks.broadcast(self.validation_loss() if self.ranks.rank == 0 else None)
            default_generator.state = drawn  # ops with dropout draw keys even at rate 0: when a run validates must not change it
            if not np.isfinite(loss):
                raise AnomalyError(f"the validation loss is {loss} after step {step}: try a lower learning rate")
            self._record(report, step=step, val_loss=loss)
            progress.since_best += step % self.config.eval_every == 0
            if loss < progress.best_val_loss:
                progress.best_val_loss, progress.best_step, progress.since_best = loss, step, 0
                path = self.folder / "checkpoints" / "best.safetensors"
                if self.ranks.rank == 0:
                    write_arrays(path, model_arrays(self.model), {"step": step, "val_loss": loss})
        self._mark = time.perf_counter()  # validating is no training

    def _evaluated(self) -> contextlib.AbstractContextManager[None]:
        """Within it the model has the weights that are evaluated and saved: their average, if there is one."""
        return self.average.swapped() if self.average else contextlib.nullcontext()

    def out_of_patience(self) -> bool:
        """Whether config.patience validations in a row were no better than the best."""
        return 0 < self.config.patience <= self.progress.since_best

    def _summary(self) -> dict[str, Any]:
        progress = self.progress
        if progress.val_loss is None:  # no step was made
            self._validate(lambda record: None)
        if not self.ranks.broadcast(checkpoint_path(self.folder, progress.step).exists()):
            self.save()
        if self.average:
            self.average.assign()
        tokens = self.tokens_between(0, progress.step)
        early = progress.step < self.config.steps
        summary = None
        if self.ranks.rank == 0:
            summary = finish(self.folder, self.model, model_arrays(self.model), progress, self.bytes_per_token, tokens, early)
        return self.ranks.broadcast(summary)

    # ---- checkpoints

    def _save_is_due(self) -> bool:
        """By steps, or by the clock: when a run saves changes nothing in it."""
        minutes = (time.monotonic() - self._saved) / 60
        due = self.progress.step % self.config.save_every == 0 or 0 < self.config.save_minutes <= minutes
        return self.ranks.broadcast(due)  # clocks differ

    def save(self) -> None:
        """Writes checkpoints/step-N.safetensors: all that a resume needs, in one file. The last config.keep stay.

        Errors: AnomalyError when a loss since the last record is not finite: nothing is written then.
        """
        self._require_finite(float(backend.to_numpy(self.losses)), 0.0)
        self._count_seconds()
        check_same_weights(self.ranks, self.model, f"after step {self.progress.step}")
        arrays, record = snapshot(self)
        if self.ranks.rank == 0:
            write_arrays(checkpoint_path(self.folder, self.progress.step), arrays, record)
            keep_newest(self.folder, self.config.keep)
        self._start_clock()  # saving is no training

    def _restore(self, set_aside: bool = False) -> None:
        newest_whole(self.folder, lambda path, arrays, record: restore(self, path, arrays, record), set_aside)


def _rows(state: list[Tensor] | None, rows: slice, size: int) -> list[Tensor] | None:
    """The part of a state (layers, N, hidden) that belongs to some rows of the batch."""
    if state is None or (rows.start, rows.stop) == (0, size):
        return state
    return [Tensor(array_module(s.data).ascontiguousarray(s.data[:, rows])) for s in state]


def _joined(parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else array_module(parts[0]).concatenate(parts, axis=1)
