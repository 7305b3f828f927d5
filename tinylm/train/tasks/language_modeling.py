"""Language modeling: the next token of a text, and runs that train a model of it."""

import dataclasses
import hashlib
import itertools
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinylm.data import Corpus, ParallelStreams, ShuffledBlocks, Tokenizer, split_text, train_tokenizer
from tinylm.data.encoding import beginning, encoded, learn_tokenizer, token_ids
from tinylm.data.unknown import NOT_COUNTED, Unknown, mean_bytes, unknown_in
from tinylm.engine.devices import device_namespace, parse_device, to_device
from tinylm.engine.random_keys import Generator, drawing_from
from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError, DataError
from tinylm.files.json_files import write_json
from tinylm.files.regular_files import exists
from tinylm.models import LanguageModel, NgramLM
from tinylm.pretrained.tokenizer_files import PretrainedTokenizer
from tinylm.train.distributed import Ranks, own_rows, rank_0_first
from tinylm.train.loop import Training
from tinylm.train.metrics import MetricsLog
from tinylm.train.records import summary_of, write_results
from tinylm.train.run_folder import RunLock, never_started, refuse_used, saved_checkpoints, say_begun_again
from tinylm.train.state import Progress
from tinylm.train.tasks.data_note import DATA_FILE, check_data, data_note, keep_note, source_of, token_counts
from tinylm.train.tasks.dropout_ramp import DropoutRamp
from tinylm.train.tasks.fine_tuning import SHAPE, absolute, with_shape_of
from tinylm.train.tasks.language_model_config import (
    RECURRENT,
    TrainConfig,
    build_model,
    build_optimizer,
    build_schedule,
    check_training_fits,
)
from tinylm.train.tasks.loading import initial_model, read_config, tokenizer_of, untrained_model
from tinylm.train.tasks.resuming import goes_on, settings_to_go_on
from tinylm.train.tasks.samples import sample_text
from tinylm.train.tasks.task import Carried, MicroBatch, Task
from tinylm.train.tasks.token_losses import validation_loss
from tinylm.train.tasks.vocabulary_extension import with_characters_of
from tinylm.train.watching.descriptions import Described, described_model


@dataclass
class LanguageModeling(Task):
    """A text in batches, a model of its next token, and the mean of -log p as the loss."""

    config: TrainConfig
    model: LanguageModel
    batches: Any  # batches[k] is (inputs, targets), each (batch_size, block_size)
    tokenizer: Tokenizer
    train_ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    val_ids: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    bytes_per_token: float = float("nan")  # of the validation part
    unknown: Unknown = NOT_COUNTED  # words in it
    rows: slice = field(default_factory=lambda: slice(None))
    files: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ramp = DropoutRamp(self.model, self.config.dropout_ramp) if self.config.dropout_ramp else None

    def build_updates(self) -> None:
        self.optimizer, self.schedule = build_optimizer(self.config, self.model), build_schedule(self.config)

    def micro_batches(self, k: int) -> list[MicroBatch]:
        if self.ramp:
            self.ramp.set(k)  # here, since the loop asks for the batch of step k before it runs the model
        x, y = (a[self.rows] for a in self.batches[k])
        parts = self.config.accumulate
        if parts == 1:
            return [MicroBatch((x, y), slice(None), 1.0)]
        cuts = [len(x) * i // parts for i in range(parts + 1)]
        return [MicroBatch((x[a:b], y[a:b]), slice(a, b), (b - a) / len(x)) for a, b in itertools.pairwise(cuts)]

    def loss(self, batch: tuple[np.ndarray, np.ndarray], carried: Carried | None) -> tuple[Tensor, Carried | None]:
        ids, targets = (Tensor(to_device(a, self.config.device)) for a in batch)
        return self.model.loss(ids, targets, carried)

    def starts_afresh(self, k: int) -> bool:
        return bool(self.batches.starts_afresh(k))

    def carried_kinds(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        c = self.config
        if c.model not in RECURRENT:
            return []
        return [(np.dtype(np.float32), (c.n_layer, c.batch_size, c.n_hidden))] * (c.members * (2 if c.model == "lstm" else 1))

    def validation_loss(self) -> float:
        return validation_loss(self.model, self.val_ids, self.config.device, block_size=self.config.block_size)

    def sample(self, random: np.random.Generator) -> str:
        return sample_text(self.model, self.tokenizer, self.train_ids[:1].tolist(), self.config.device, random)

    def tokens_between(self, first: int, stop: int) -> int:
        return (stop - first) * self.config.batch_size * self.config.block_size

    def batch_arrays(self, k: int) -> dict[str, np.ndarray]:
        return dict(zip(("inputs", "targets"), self.batches[k], strict=True))

    def about(self) -> tuple[str, str]:
        return self.config.model, f"{source_of(self.files)}{token_counts(self.tokenizer, self.train_ids, self.val_ids)}"


class Run(Training):
    """A language model's training run in a folder: made fresh, or resumed from its newest whole checkpoint.

    The folder is locked from the making of the object until `train` is done.
    """

    task: LanguageModeling

    def __init__(
        self, config: TrainConfig, folder: str | Path, text: str | Corpus, tokenizer: Tokenizer | None = None, resume: bool = False,
        ranks: Ranks | None = None, accept_new_data: bool = False, exist_ok: bool = False,
    ) -> None:  # fmt: skip
        """text: itself, of which the last tenth validates, or `tinylm.data.open_corpus` of a file or folder.
        resume: go on with the run in the folder; `steps`, say, may be more than it was made with.
        accept_new_data: resume on a text that is not the one the run was trained on, which is otherwise a DataError.
        exist_ok: go on with a run that the folder holds, and begin one where there is none, so that a cell of a notebook can be run
        again. The run keeps its settings; other ones than a resume may change are a ConfigError.

        Without `resume` and `exist_ok` a folder that holds a run is a CheckpointError; nothing in it changes."""
        folder = Path(folder)
        ranks = ranks or Ranks()
        ranks.agree({**config.to_json(), "device": parse_device(config.device)[0], "resume": resume, "exist_ok": exist_ok})
        if exist_ok and not resume and ranks.broadcast(goes_on(folder)):
            there = dataclasses.replace(config, init=absolute(config.init))
            resume, config = True, settings_to_go_on(folder, there, SHAPE if config.init else ())
        rows = slice(None) if ranks.size == 1 else own_rows(ranks, config.batch_size, config.accumulate)
        device_namespace(config.device)  # a missing device is reported before anything is made
        resume = resume and not ranks.broadcast(never_started(folder))
        generator = Generator(config.seed)
        model: Any = None
        base = None
        note = data_note(text, "the text")
        if resume:
            check_data(folder, note, accept_new_data)
            tokenizer = tokenizer or read_config(folder, TrainConfig)[1]
        else:
            config.check_new()
        if config.init and resume:
            assert tokenizer is not None
            with drawing_from(generator):
                model = untrained_model(folder, config, tokenizer)
        elif config.init:
            with drawing_from(generator):
                model, base = initial_model(config)
            config, tokenizer = with_shape_of(model, config), tokenizer or tokenizer_of(Path(config.init))
            with drawing_from(generator):
                model, tokenizer = with_characters_of(text, model, tokenizer, config)
        with rank_0_first(ranks):  # it may make a token file, which the others then use
            data = prepare(config, text, tokenizer)
        if ranks.size > 1:
            parts = {"the training part": data.train_ids, "the validation part": data.val_ids, "the tokenizer": data.tokenizer.to_json()}
            ranks.agree({f"the SHA-256 of {name}": _digest(part) for name, part in parts.items()})
        check_training_fits(config, data.tokenizer.vocab_size, ranks.size)
        with drawing_from(generator):
            model = model or build_model(config, data.tokenizer.vocab_size)
        files = {DATA_FILE: note, "config.json": run_record(config, data.tokenizer, model, base)}
        task = LanguageModeling(config, model, make_batches(config, data.train_ids), *data, rows, files)
        super().__init__(task, folder, ranks, generator)
        self.open(resume, take_over=exist_ok)
        if resume and self.state.ranks.rank == 0:
            keep_note(folder, note, self.progress.step)


def _digest(part: Any) -> str:
    content = np.ascontiguousarray(part).data if isinstance(part, np.ndarray) else json.dumps(part).encode()
    return hashlib.sha256(content).hexdigest()[:16]


class Encoded(NamedTuple):
    """A text as a run trains and validates on it."""

    tokenizer: Tokenizer
    train_ids: np.ndarray
    val_ids: np.ndarray
    bytes_per_token: float  # of the validation part
    unknown: Unknown = NOT_COUNTED  # words in it


def prepare(config: TrainConfig, text: str | Corpus, tokenizer: Tokenizer | None) -> Encoded:
    """Returns a text's ids, with a tokenizer learned from it if none is given. Of a string the last tenth validates."""
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
    val_text = beginning(val_text, tokenizer, config.eval_tokens)
    val_ids = tokenizer.encode(val_text) if isinstance(text, str) else encoded(text.validation, val_text, tokenizer)
    what, given = ("order", config.order) if config.model == "ngram" else ("block_size", config.block_size)
    needed = given + (what == "block_size")
    if len(train_ids) < needed or len(val_ids) < 2:
        raise DataError(
            f"the data is too short: {len(train_ids)} tokens for training, where {what} {given} needs {needed}, "
            f"and {len(val_ids)} for validation, which needs 2"
        )
    val_bytes = mean_bytes(tokenizer, val_text, val_ids)
    return Encoded(tokenizer, train_ids, val_ids, val_bytes, unknown_in(tokenizer, val_text, val_ids, 1))


def make_batches(config: TrainConfig, train_ids: np.ndarray) -> ParallelStreams | ShuffledBlocks:
    """Returns the batches of a run: streams for a recurrent model, which carries its state, and shuffled blocks for others."""
    kind = ParallelStreams if config.model in RECURRENT else ShuffledBlocks
    return kind(train_ids, config.block_size, config.batch_size, config.seed)


def run_record(config: TrainConfig, tokenizer: Tokenizer, model: LanguageModel, base: str | None) -> dict[str, Any]:
    """Returns what config.json holds of a run.

    With `init` and no adapters all weights are the run's own: it keeps the other model's tokenizer and context, and needs
    that model no more. Adapters correct weights that are not stored with them: it keeps the digest of these, `base`. The
    tokenizer of a pretrained model stays with that model.
    """
    record: dict[str, Any] = {"train": config.to_json(), "tokenizer": tokenizer.to_json()}
    if base is not None:
        return record | {"tokenizer": None, "base": base}
    if config.init and isinstance(tokenizer, PretrainedTokenizer):
        return record | {"tokenizer": None}
    return record | {"context": model.block_size} if config.init else record


class Counting(Described):
    """The n-gram twin of `Run`: one step, the counting of the training text, in a run folder like any other."""

    def __init__(
        self, config: TrainConfig, folder: str | Path, text: str | Corpus, tokenizer: Tokenizer | None = None, resume: bool = False,
        exist_ok: bool = False,
    ) -> None:  # fmt: skip
        """A run that was ended before it had counted is begun again with `resume`; a finished one raises CheckpointError.
        exist_ok: count anew in the folder of a run with the same settings and text, and begin one where there is none."""
        config.check_new()
        folder = Path(folder)
        note = data_note(text, "the text")
        again = exist_ok and goes_on(folder)
        if again:
            settings_to_go_on(folder, config)
            check_data(folder, note, accept=False)
        self.config, self.folder, self.lock = config, folder, RunLock(folder)
        self.task = prepare(config, text, tokenizer)
        self.model = NgramLM(self.task.tokenizer.vocab_size, config.order)
        self.val_loss: float | None = None
        self.lock.acquire(take_over=exist_ok)
        try:
            if not (resume or again):
                refuse_used(folder)
            elif exists(folder / "summary.json") and not again:
                raise CheckpointError(f"the run in {folder} is finished: it has counted its text")
            elif saved_checkpoints(folder):
                raise CheckpointError(f"{folder} holds a run of another model, with checkpoints, which counting has none of")
            elif not again:
                say_begun_again(folder)
            record = {"train": config.to_json(), "tokenizer": self.task.tokenizer.to_json()}
            self.files = {DATA_FILE: note, "config.json": record}
            for name, content in self.files.items():
                write_json(folder / name, content)
            self.log = MetricsLog(folder / "metrics.jsonl")
        except CheckpointError:
            self.lock.release()
            raise

    def train(self) -> dict[str, Any]:
        """Counts, validates, and returns the summary, which it also writes."""
        with self.lock:
            return self._counted()

    def facts(self) -> dict[str, str]:
        model = described_model(f"{self.config.model} of order {self.config.order}", self.model)
        facts = {"model": model, "data": f"{source_of(self.files)}{token_counts(*self.task[:3])}"}
        return facts | ({} if self.val_loss is None else {"validation loss": f"{self.val_loss:.4f}"}) | {"folder": str(self.folder)}

    def _counted(self) -> dict[str, Any]:
        began = time.perf_counter()
        self.model.fit(self.task.train_ids[:])  # of a mapped file that was cut since, the slice is a DataError
        seconds = time.perf_counter() - began
        loss = self.val_loss = validation_loss(self.model, self.task.val_ids)
        self.log.write({"step": 1, "val_loss": loss})
        progress = Progress(step=1, train_seconds=seconds, val_loss=loss, best_step=1, best_val_loss=loss)
        task, size = self.task, self.model.num_parameters()
        summary = summary_of(progress, size, task.bytes_per_token, len(task.train_ids), unknown=task.unknown)
        write_results(self.folder, self.model.state_dict(), summary, {"step": 1, "val_loss": loss})
        return summary
