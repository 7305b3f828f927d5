"""Training translators, and using them from their run folders."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinylm import ops
from tinylm.data.batching import padded
from tinylm.data.pairs import Batch, BucketedBatches, Pair, Pairs, Vocabulary, make_batch
from tinylm.data.tokenizers import BpeTokenizer, from_json
from tinylm.decode.beams import beam_search, greedy
from tinylm.engine.autograd import no_grad
from tinylm.engine.devices import device_namespace, to_device
from tinylm.engine.random_keys import default_generator
from tinylm.engine.tensor import Tensor
from tinylm.errors import CheckpointError, DataError
from tinylm.files.json_files import read_json
from tinylm.models.translator import TranslationModel
from tinylm.optim import Optimizer, Schedule, WarmupCosine
from tinylm.train.loop import Run
from tinylm.train.runs import load_weights
from tinylm.train.saving import open_folder
from tinylm.train.tasks.latent_semantics import latent_embedding
from tinylm.train.tasks.translation_config import TranslationConfig, build_translation_optimizer, build_translator

TASK = "translation"


class TranslationRun(Run):
    """A training run of a translator: the loop, checkpoints and resume of `Run`, on pairs of sentences."""

    config: TranslationConfig  # type: ignore[assignment]
    model: TranslationModel  # type: ignore[assignment]
    batches: BucketedBatches

    def __init__(self, config: TranslationConfig, folder: Path, pairs: Pairs, resume: bool = False) -> None:
        """Errors: CheckpointError when the folder holds a run already; DataError when no pair is short enough."""
        device_namespace(config.device)
        default_generator.seed(config.seed)
        self.config = config
        self.vocabulary = read_config(folder)[1] if resume else Vocabulary.train(pairs.train, config.bpe_size)
        train, self.too_long = self._encoded(pairs.train)
        self.validation, left_out = self._encoded(pairs.validation)
        if not train or not self.validation:
            raise DataError(f"no pair of the training or validation part has at most block_size {config.block_size} tokens on each side")
        self.too_long += left_out
        scored = sum(len(target) for _, target in self.validation)
        self.bytes_per_token = sum(len(self.vocabulary.decode(t).encode("utf-8")) for _, t in self.validation) / scored
        batches = BucketedBatches(train, config.batch_tokens, config.seed, self.vocabulary)
        model = build_translator(config, self.vocabulary.size)
        if config.embedding == "latent" and not resume:
            self._start_embedding(model, [np.concatenate(pair) for pair in train])
        self._assemble(config, folder, batches, model)
        open_folder(self, resume, {"task": TASK, "train": config.to_json(), "tokenizer": self.vocabulary.tokenizer.to_json()})

    def _build_updates(self) -> tuple[Optimizer, Schedule]:
        c = self.config
        return build_translation_optimizer(c, self.model), WarmupCosine(c.lr, c.min_lr, c.warmup, c.schedule_steps)

    @classmethod
    def without_data(cls, folder: Path, batches: Any) -> "TranslationRun":
        config, vocabulary = read_config(folder)
        run = cls.__new__(cls)
        run.vocabulary = vocabulary
        run._assemble(config, folder, batches, build_translator(config, vocabulary.size))
        return run

    def batch_arrays(self, k: int) -> dict[str, np.ndarray]:
        return {name: np.asarray(value) for name, value in vars(self.batches[k]).items()}

    @staticmethod
    def batch_of(arrays: dict[str, np.ndarray]) -> Batch:
        return Batch(**{**arrays, "target_tokens": int(arrays["target_tokens"])})  # type: ignore[arg-type]

    def carried_kinds(self) -> list[tuple[Any, tuple[int, ...]]]:
        return []

    def _encoded(self, pairs: Sequence[Pair]) -> tuple[list[tuple[np.ndarray, np.ndarray]], int]:
        """(the ids of the pairs that fit into a block on both sides, how many do not)."""
        encoded = [(self.vocabulary.encode(source), self.vocabulary.encode(target)) for source, target in pairs]
        fitting = [pair for pair in encoded if max(map(len, pair)) <= self.config.block_size]
        return fitting, len(encoded) - len(fitting)

    def _start_embedding(self, model: TranslationModel, documents: Sequence[np.ndarray]) -> None:
        """Tokens of the training pairs get their latent vectors, of length 1; others keep their random ones."""
        weight = model.embedding.weight
        tokens, width = weight.shape
        vectors = latent_embedding(documents, tokens, width, self.config.seed)
        weight.data[...] = np.where(vectors.any(axis=1, keepdims=True), vectors, weight.data)

    def _loss(self, batch: Batch, **settings: Any) -> Tensor:
        on_device = functools.partial(to_device, device=self.config.device)
        source, target_in, target_out = (Tensor(on_device(x.copy())) for x in (batch.source, batch.target_in, batch.target_out))
        logits = self.model(source, batch.source_lengths, target_in)
        return ops.cross_entropy(logits, target_out, ignore_index=self.vocabulary.pad, **settings)

    def _gradients(self, k: int) -> Any:
        loss = self._loss(self.batches[k], label_smoothing=self.config.label_smoothing)
        self.optimizer.zero_grad()
        loss.backward()
        return loss.data

    def tokens_between(self, first: int, stop: int) -> int:
        return self.batches.target_tokens(first, stop)

    def validation_loss(self) -> float:
        """Mean -log p of every target token of the validation part, ends included, in nats, not smoothed."""
        ordered = sorted(self.validation, key=lambda pair: len(pair[1]))
        self.model.eval()
        total = tokens = 0.0
        with no_grad():
            for start in range(0, len(ordered), 32):
                batch = make_batch(ordered[start : start + 32], self.vocabulary)
                total += self._loss(batch, reduction="sum").item()
                tokens += batch.target_tokens
        self.model.train()
        return total / tokens


def read_config(folder: Path) -> tuple[TranslationConfig, Vocabulary]:
    """(config, vocabulary) of a translator's run folder. Errors: CheckpointError when it is none."""
    if not folder.is_dir():
        raise CheckpointError(f"no run folder {str(folder)!r}")
    record = read_json(folder / "config.json")
    if not isinstance(record, dict) or record.get("task") != TASK:
        raise CheckpointError(f"the run in {folder} was trained for another task: expected one of scripts/translate.py")
    try:
        tokenizer = from_json(record.get("tokenizer"))
    except DataError as error:
        raise CheckpointError(f"{folder / 'config.json'} is damaged: {error}") from error
    if not isinstance(tokenizer, BpeTokenizer):
        raise CheckpointError(f"{folder / 'config.json'} is damaged: its tokenizer is {tokenizer.kind!r}, expected 'bpe'")
    return TranslationConfig.from_json(record.get("train")), Vocabulary(tokenizer)


class SentenceTranslator:
    """A trained translator from text to text."""

    def __init__(self, model: TranslationModel, vocabulary: Vocabulary, block_size: int, device: str = "cpu") -> None:
        self.model, self.vocabulary, self.block_size, self.device = model, vocabulary, block_size, device
        model.eval()

    def fits(self, text: str) -> bool:
        """Whether a source is not longer than the block."""
        return len(self.vocabulary.encode(text)) <= self.block_size

    def translate(self, text: str, beams: int = 4, alpha: float = 0.6) -> str:
        """The translation of one sentence by beam search; greedy for one beam.

        Errors: DataError for an empty source or one longer than the block.
        """
        if not text.strip():
            raise DataError("there is no text to translate")
        v = self.vocabulary
        source, lengths = padded([v.encode(text)], v.pad)
        if source.shape[1] > self.block_size:
            raise DataError(f"the source has {source.shape[1]} tokens, its end included: expected at most {self.block_size} (block_size)")
        with no_grad():
            state = self.model.encode(Tensor(to_device(source, self.device)), lengths)
        settings: dict[str, Any] = {
            "bos": v.bos, "eos": v.eos, "max_tokens": self.block_size, "forbidden": [v.pad, v.bos], "device": self.device,
        }  # fmt: skip
        if beams == 1:
            return v.decode(greedy(self.model, state, **settings).tokens)
        return v.decode(beam_search(self.model, state, beams=beams, alpha=alpha, **settings)[0].tokens)


def load_translator(folder: Path, device: str = "cpu") -> SentenceTranslator:
    """The translator of a finished or stopped run: its model.safetensors, or the last checkpoint when
    it was stopped before writing one.

    Errors: CheckpointError when the folder is none of a translator's, is damaged, or holds another model's weights.
    """
    config, vocabulary = read_config(folder)
    model = build_translator(config, vocabulary.size)
    load_weights(model, folder)
    model.to(device)
    return SentenceTranslator(model, vocabulary, config.block_size, device)
