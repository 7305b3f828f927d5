"""The training loop: batches, gradients, updates, validations, checkpoints."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinylm import backend
from tinylm.data import Corpus, ParallelStreams, ShuffledBlocks, Tokenizer, split_text, train_tokenizer
from tinylm.data.encoding import learn_tokenizer, token_ids
from tinylm.errors import AnomalyError, CheckpointError, DataError
from tinylm.models import LanguageModel, NgramLM
from tinylm.random_streams import default_generator
from tinylm.tensor import Tensor
from tinylm.train.checkpoints import model_arrays, read_arrays, write_arrays, write_json
from tinylm.train.config import TrainConfig, build_model, build_optimizer, build_schedule
from tinylm.train.distributed import Alone, Ranks, check_same_weights, own_rows, rank_0_first, separate_draws
from tinylm.train.dropout_ramp import DropoutRamp
from tinylm.train.gradient_norms import gradient_norms
from tinylm.train.metrics import MetricsLog, validation_loss

Report = Callable[[dict[str, Any]], None]


@dataclass
class Progress:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    train_seconds: float = 0.0
    val_loss: float | None = None  # of the last validation
    best_step: int = -1
    best_val_loss: float = float("inf")


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


def start_folder(config: TrainConfig, folder: Path, tokenizer: Tokenizer, text: str | Corpus) -> None:
    """Makes the run folder with its config.json, and for a corpus its note, data.json.
    Errors: CheckpointError when it holds a run already."""
    if (folder / "config.json").exists():
        raise CheckpointError(f"{folder} holds a run already: continue it with --resume, or choose another --out")
    write_json(folder / "config.json", {"train": config.to_json(), "tokenizer": tokenizer.to_json()})
    if isinstance(text, Corpus):
        write_json(folder / "data.json", text.to_json())


def finish(
    folder: Path, model: LanguageModel | NgramLM, arrays: dict[str, Any], progress: Progress, bytes_per_token: float, tokens: int
) -> dict[str, Any]:
    """Writes model.safetensors and summary.json and returns the summary."""
    loss: Any = progress.val_loss
    summary = {
        "val_loss": loss,
        "val_nats_per_byte": loss / bytes_per_token,
        "best_val_loss": progress.best_val_loss,
        "best_step": progress.best_step,
        "steps": progress.step,
        "parameters": model.num_parameters(),
        "train_seconds": progress.train_seconds,
        "tokens_per_second": tokens / progress.train_seconds if progress.train_seconds else 0.0,
    }
    write_arrays(folder / "model.safetensors", arrays, {"step": progress.step, "val_loss": loss})
    write_json(folder / "summary.json", summary)
    return summary


class Run:
    """One training run in a folder: made fresh, or resumed from its last checkpoint.

    After a resume everything is as if the run had never stopped: weights, optimiser, random
    numbers and batches, bit for bit on one machine.
    """

    _peaks: Sequence[float] = ()  # the learning rate each parameter group was made with
    ranks: Ranks = Alone()

    def __init__(
        self, config: TrainConfig, folder: Path, text: str | Corpus, tokenizer: Tokenizer | None = None, resume: bool = False,
        ranks: Ranks | None = None,
    ) -> None:  # fmt: skip
        """ranks: the processes that train together; rank 0 alone writes into the folder."""
        self.config, self.folder = config, folder
        if ranks is not None:
            self.ranks = ranks
        self._rows = own_rows(self.ranks, config.batch_size)
        backend.device_namespace(config.device)  # a missing device is reported before anything is made
        default_generator.seed(config.seed)
        with rank_0_first(self.ranks):  # it may make a token file, which the others then use
            self.tokenizer, self.train_ids, self.val_ids, self.bytes_per_token = prepare(config, text, tokenizer)
        batches = ParallelStreams if config.model in RECURRENT else ShuffledBlocks
        self.batches = batches(self.train_ids, config.block_size, config.batch_size, config.seed)
        self.state: list[Tensor] | None = None  # what a recurrent model carries from batch to batch
        self.model: LanguageModel = build_model(config, self.tokenizer.vocab_size)
        self.model.to(config.device)
        self.optimizer = build_optimizer(config, self.model)
        self.schedule = build_schedule(config)
        self.dropout = DropoutRamp(self.model, config.dropout_ramp)
        self.progress = Progress()
        self.stop_requested = False  # set it (from a signal handler, say) to stop after the step under way
        if resume:
            self._restore()
        elif self.ranks.rank == 0:
            start_folder(config, folder, self.tokenizer, text)
        check_same_weights(self.ranks, self.model, "at the start")
        separate_draws(self.ranks, default_generator)
        if self.ranks.rank == 0:
            self.log = MetricsLog(folder / "metrics.jsonl", self.progress.step)

    # ---- the loop

    def train(self, report: Report = lambda record: None) -> dict[str, Any] | None:
        """Trains up to config.steps and returns the summary, which it also writes; None when it was
        asked to stop before, with a checkpoint to resume from.

        `report` gets each record that metrics.jsonl gets: every log_every steps, and whenever
        the run validates, saves or stops. Errors: AnomalyError when a loss or the gradient norm is
        no longer finite; the last checkpoint then stands.
        """
        config, progress = self.config, self.progress
        self.model.train()
        mark, mark_step = time.perf_counter(), progress.step
        losses: Any = 0.0
        stopping = self.ranks.any(self.stop_requested)
        while progress.step < config.steps and not stopping:
            loss, norm = self._step(progress.step)
            losses = losses + loss  # on the device: nothing is copied until a record is due
            progress.step += 1
            step, stopping = progress.step, self.ranks.any(self.stop_requested)
            validates = step % config.eval_every == 0 or step == config.steps
            saves = step % config.save_every == 0 or step == config.steps
            if step % config.log_every == 0 or validates or saves or stopping:
                mean = self.ranks.mean(float(backend.to_numpy(losses))) / (step - mark_step)
                elapsed = time.perf_counter() - mark
                progress.train_seconds += elapsed
                if not np.isfinite(mean):
                    raise AnomalyError(f"the training loss is {mean} between steps {mark_step + 1} and {step}: try a lower learning rate")
                speed = self.tokens_between(mark_step, step) / elapsed
                self._record(
                    report, step=step, loss=mean, lr=self.schedule(step - 1), grad_norm=float(backend.to_numpy(norm)),
                    grad_norms=gradient_norms(self.model), tokens_per_second=speed, train_seconds=progress.train_seconds,
                )  # fmt: skip
                losses, mark_step = 0.0, step
                if validates:
                    self._validate(report)
                if saves:
                    self.save()
                mark = time.perf_counter()
        if progress.step < config.steps:
            self.save()
            return None
        return self._summary()

    def _step(self, k: int) -> tuple[Any, Any]:
        """One update; (loss, gradient norm) as 0-d arrays on the device."""
        self.dropout.set(k)
        x, y = (Tensor(backend.to_device(a[self._rows], self.config.device)) for a in self.batches[k])
        loss, state = self.model.loss(x, y, None if self.batches.starts_afresh(k) else self.state)
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.model in RECURRENT:
            self.state = [s.detach() for s in state]  # truncated backpropagation through time
        self.ranks.average(self.optimizer.gradients())
        self._set_learning_rates(k)
        norm = self.optimizer.step(max_norm=self.config.clip)
        return loss.data, norm

    def _set_learning_rates(self, k: int) -> None:
        """The schedule's for step k; a group whose peak differs from config.lr follows in proportion."""
        if not self._peaks:
            self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = self.schedule(k) * (peak / self.config.lr if self.config.lr else 1.0)

    def tokens_between(self, first: int, stop: int) -> int:
        """How many tokens the steps from `first` up to `stop` train on."""
        return (stop - first) * self.config.batch_size * self.config.block_size

    def validation_loss(self) -> float:
        """The loss over the whole validation part, in nats a token."""
        return validation_loss(self.model, self.val_ids, self.config.device)

    def _record(self, report: Report, **record: Any) -> None:
        if self.ranks.rank == 0:
            self.log.write(record)
            report(record)

    def _validate(self, report: Report) -> None:
        step = self.progress.step
        drawn = default_generator.state
        loss = self.progress.val_loss = self.ranks.broadcast(self.validation_loss() if self.ranks.rank == 0 else None)
        default_generator.state = drawn  # ops with dropout draw keys even at rate 0: when a run validates must not change it
        if not np.isfinite(loss):
            raise AnomalyError(f"the validation loss is {loss} after step {step}: try a lower learning rate")
        self._record(report, step=step, val_loss=loss)
        if loss < self.progress.best_val_loss:
            self.progress.best_val_loss, self.progress.best_step = loss, step
            if self.ranks.rank == 0:
                write_arrays(self.folder / "checkpoints" / "best.safetensors", model_arrays(self.model), {"step": step, "val_loss": loss})

    def _summary(self) -> dict[str, Any]:
        progress = self.progress
        if progress.val_loss is None:  # no step was made
            self._validate(lambda record: None)
            self.save()
        tokens = self.tokens_between(0, progress.step)
        summary = None
        if self.ranks.rank == 0:
            summary = finish(self.folder, self.model, model_arrays(self.model), progress, self.bytes_per_token, tokens)
        return self.ranks.broadcast(summary)

    # ---- checkpoints

    def save(self) -> None:
        """Writes checkpoints/last.safetensors: all that a resume needs, in one file."""
        check_same_weights(self.ranks, self.model, f"after step {self.progress.step}")
        carried = [self.ranks.gather(s.data, axis=1) for s in self.state or []]  # (layers, rows, hidden)
        if self.ranks.rank:
            return
        arrays = {f"model.{name}": a for name, a in model_arrays(self.model).items()}
        arrays |= {f"optimizer.{name}": a for name, a in self.optimizer.state_dict().items()}
        arrays |= {f"state.{i}": rows for i, rows in enumerate(carried)}
        record = {"progress": vars(self.progress), "generator": list(default_generator.state)}
        write_arrays(self.folder / "checkpoints" / "last.safetensors", arrays, record)

    def _restore(self) -> None:
        path = self.folder / "checkpoints" / "last.safetensors"
        arrays, record = read_arrays(path)
        parts: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}}
        for name, array in arrays.items():
            part, _, rest = name.partition(".")
            parts.setdefault(part, {})[rest] = array
        self.model.load_state_dict(parts["model"])
        self.optimizer.load_state_dict(parts["optimizer"])
        carried = parts.get("state", {})
        self.state = [Tensor(backend.to_device(carried[str(i)][:, self._rows], self.config.device)) for i in range(len(carried))] or None
        try:
            self.progress = Progress(**record["progress"])
            seed, count = record["generator"]
            default_generator.state = (int(seed), int(count))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} has no usable record of its progress: {json.dumps(record)[:100]}") from error
