"""From a text to what a run trains and validates on, and the folder it is written into."""

from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data import Corpus, ParallelStreams, ShuffledBlocks, Tokenizer, split_text, train_tokenizer
from tinylm.data.encoding import learn_tokenizer, token_ids
from tinylm.errors import DataError
from tinylm.files.json_files import write_json
from tinylm.train.tasks.language_model_config import RECURRENT, TrainConfig


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


def make_batches(config: TrainConfig, train_ids: np.ndarray) -> ParallelStreams | ShuffledBlocks:
    """The batches of a run: streams for a recurrent model, which carries its state, and shuffled blocks for others."""
    kind = ParallelStreams if config.model in RECURRENT else ShuffledBlocks
    return kind(train_ids, config.block_size, config.batch_size, config.seed)
