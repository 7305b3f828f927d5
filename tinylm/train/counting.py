"""Training an n-gram model: counting, in a run folder like any other."""

import time
from pathlib import Path
from typing import Any

from tinylm.data import Corpus, Tokenizer
from tinylm.models import NgramLM
from tinylm.train.metrics import MetricsLog, validation_loss
from tinylm.train.preparation import prepare, start_folder
from tinylm.train.progress import Progress, finish
from tinylm.train.run_folder import refuse_used
from tinylm.train.tasks.language_model_config import TrainConfig


class Counting:
    """The n-gram twin of `Run`: one step, the counting of the training text."""

    def __init__(self, config: TrainConfig, folder: Path, text: str | Corpus, tokenizer: Tokenizer | None = None) -> None:
        self.config, self.folder = config, folder
        self.tokenizer, self.train_ids, self.val_ids, self.bytes_per_token = prepare(config, text, tokenizer)
        self.model = NgramLM(self.tokenizer.vocab_size, config.order)
        refuse_used(folder)
        start_folder(folder, {"train": config.to_json(), "tokenizer": self.tokenizer.to_json()}, text)
        self.log = MetricsLog(folder / "metrics.jsonl")

    def train(self) -> dict[str, Any]:
        """Counts, validates, and returns the summary, which it also writes."""
        began = time.perf_counter()
        self.model.fit(self.train_ids)
        seconds = time.perf_counter() - began
        loss = validation_loss(self.model, self.val_ids)
        self.log.write({"step": 1, "val_loss": loss})
        progress = Progress(step=1, train_seconds=seconds, val_loss=loss, best_step=1, best_val_loss=loss)
        return finish(self.folder, self.model, self.model.state_dict(), progress, self.bytes_per_token, len(self.train_ids))
