"""Characters that a trained model does not know: rows for them, or an error that names one."""

import dataclasses
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np

from tinylm.data import CharTokenizer, Corpus, Tokenizer
from tinylm.data.encoding import first_unknown, parts_of
from tinylm.engine.random_keys import current
from tinylm.errors import ConfigError, DataError
from tinylm.models import LanguageModel
from tinylm.train.tasks.fine_tuning import context_of
from tinylm.train.tasks.language_model_config import TrainConfig, build_model, set_checkpointing
from tinylm.train.tasks.loading import read_config, tokenizer_of

NOISE = 0.1  # of the known rows' standard deviation: enough to tell new characters apart


def check_extension(config: TrainConfig, tokenizer: Tokenizer) -> None:
    """Raises ConfigError if the vocabulary of the model to go on with cannot be extended."""
    if not isinstance(tokenizer, CharTokenizer):
        why = "a word that it lacks is <unk>" if tokenizer.unknown_id is not None else "pieces of bytes spell every text"
        raise ConfigError(
            f"extend_vocabulary is True: it adds characters to a model of characters, but the tokens of init {config.init} are of the "
            f"kind {tokenizer.kind!r}, where no text is refused ({why})"
        )
    if config.lora_rank:
        raise ConfigError(
            f"extend_vocabulary is True and lora_rank is {config.lora_rank}: expected one of them, since adapters leave the embedding as "
            "it is, so that the new characters would never be learned"
        )


def with_characters_of(
    text: str | Corpus, model: LanguageModel, tokenizer: Tokenizer, config: TrainConfig
) -> tuple[LanguageModel, Tokenizer]:  # fmt: skip
    """Returns the model of config.init and its tokenizer, with rows for the characters of the text that they lack if
    config.extend_vocabulary says so.

    Raises DataError, with the first such character and its place, if it does not; ConfigError where nothing can be extended.
    """
    if config.extend_vocabulary:
        tokenizer = tokenizer_of(Path(config.init))  # that of a run that is begun again has the new characters already
        check_extension(config, tokenizer)
    if not isinstance(tokenizer, CharTokenizer):
        return model, tokenizer
    new = new_characters(text, tokenizer.characters)
    if not new:
        return model, tokenizer
    if not config.extend_vocabulary:
        found = first_unknown(text, tokenizer.characters)
        assert found is not None
        more = f" and {len(new) - 1:,} other characters" if len(new) > 1 else ""
        remedy = "" if config.lora_rank else ": extend_vocabulary=True adds them to it"
        raise DataError(f"{found[1]}: the model of init {config.init} does not know {found[0]!r} (U+{ord(found[0]):04X}){more}{remedy}")
    larger = CharTokenizer([*tokenizer.characters, *new])
    source = read_config(Path(config.init), TrainConfig)[0]
    shape = dataclasses.replace(source, block_size=context_of(Path(config.init)) or source.block_size)
    extended = build_model(shape, larger.vocab_size)
    copy_rows(model, extended, larger.encode("".join(tokenizer.characters)))
    return set_checkpointing(extended, config), larger


def new_characters(text: str | Corpus, known: Collection[str]) -> list[str]:
    """Returns the characters of a text, all its parts, that are not among those known."""
    pieces: Iterable[str] = [text] if isinstance(text, str) else (piece for part in parts_of(text) for piece in part)
    found: set[str] = set()
    for piece in pieces:
        found.update(piece)
    return sorted(found.difference(known))


def copy_rows(model: LanguageModel, larger: LanguageModel, places: np.ndarray) -> None:
    """Gives a model of more tokens the weights of another one: row i of its embedding and output layer becomes row places[i].

    A new row, and a new bias, is the mean of the known ones plus noise of a tenth of their standard deviation: so the new tokens are
    about as probable as the others are on average, and the old ones lose little (Hewitt 2021, "Initializing new word embeddings for
    pretrained language models").
    """
    given, made = dict(model.named_state()), {}
    arrays = {}
    for name, tensor in larger.named_state():
        old = given[name].data
        if id(given[name]) not in made:  # tied weights are made once
            made[id(given[name])] = old if old.shape == tensor.shape else _with_new_rows(old, len(tensor.data), places)
        arrays[name] = made[id(given[name])]
    larger.load_state_dict(arrays)


def _with_new_rows(old: np.ndarray, count: int, places: np.ndarray) -> np.ndarray:
    """old (known, ...) -> (count, ...): the known rows at their places, and new ones between them."""
    noise = current.generator.numpy().standard_normal((count, *old.shape[1:]))
    made = (old.mean(axis=0) + NOISE * old.std(axis=0) * noise).astype(old.dtype)
    made[places] = old
    return made
