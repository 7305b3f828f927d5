"""The loss on a test part, measured once, when a language model has been trained."""

from pathlib import Path
from typing import Any

from tinylm.data import Corpus, Tokenizer
from tinylm.data.encoding import encoded
from tinylm.data.unknown import mean_bytes, unknown_in
from tinylm.errors import DataError
from tinylm.files.json_files import write_json
from tinylm.models import LanguageModel, NgramLM
from tinylm.train.tasks.language_model_config import TrainConfig
from tinylm.train.tasks.token_losses import validation_loss


def figures_of_test(model: LanguageModel | NgramLM, tokenizer: Tokenizer, corpus: Corpus, config: TrainConfig) -> dict[str, Any]:
    """Returns the loss on the corpus's test part in nats per token and per byte, and its tokens, by their names in summary.json.

    Raises DataError for a corpus without a test part, and for one of fewer than two tokens.
    """
    if corpus.test is None:
        raise DataError(f"{corpus.source} has no test part: expected a corpus that was opened with `test`")
    text = "".join(corpus.test)
    ids = encoded(corpus.test, text, tokenizer)
    loss = validation_loss(model, ids, config.device, block_size=config.block_size)
    per_byte = (loss + unknown_in(tokenizer, text, ids, 1).per_token) / mean_bytes(tokenizer, text, ids)
    return {"test_loss": loss, "test_nats_per_byte": per_byte, "test_tokens": len(ids)}


def with_test(
    folder: Path, summary: dict[str, Any], model: LanguageModel | NgramLM, tokenizer: Tokenizer, text: str | Corpus, config: TrainConfig
) -> dict[str, Any]:  # fmt: skip
    """Returns the summary with the figures of the test part, and writes it to summary.json; as it is if there is none."""
    if isinstance(text, str) or text.test is None:
        return summary
    summary = {**summary, **figures_of_test(model, tokenizer, text, config)}
    write_json(folder / "summary.json", summary)
    return summary
