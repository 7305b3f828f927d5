"""What the subcommands of `translate` have in common: the pairs, training with a display, and the test of translators."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from support.display import train_watched
from support.run_folders import named
from support.texts import say_what_was_read
from tinylm.data.corpora import shown_sources
from tinylm.data.pairs import Pair, PairFile, Pairs, load_pairs
from tinylm.errors import DataError
from tinylm.models.translation_baselines import NearestSentence, WordLexicon
from tinylm.train.tasks.translation import SentenceTranslator, TranslationRun
from tinylm.train.tasks.translation_config import TranslationConfig

BEAMS = 4
Outputs = dict[str, list[str]]  # by decoding, its translations of the test sentences


def load(config: TranslationConfig, dry_run: bool) -> Pairs:
    """Returns the pairs, 200 of them in a dry run, and reports how the files were read and lines that could not be used."""
    pairs = load_pairs(config.data, config.encoding, config.valid, config.test)
    report_pairs(shown_sources(config.data), pairs)
    if dry_run:
        pairs = dataclasses.replace(pairs, train=pairs.train[:200], validation=pairs.validation[:20], test=pairs.test[:3])
    return pairs


def report_pairs(source: str, pairs: Pairs | PairFile) -> None:
    """Prints on stderr how the files were read, and what of them could not be used."""
    lines = "1 unusable line" if pairs.skipped == 1 else f"{pairs.skipped} unusable lines"
    skipped = f"{lines} of {source} skipped, the first: {pairs.first_skipped}" if pairs.skipped else ""
    say_what_was_read(source, pairs.notes, skipped, pairs.unread)


def sizes(pairs: Pairs) -> str:
    """Returns how many pairs each part has, in words."""
    return f"{len(pairs.train):,} for training, {len(pairs.validation):,} for validation, {len(pairs.test):,} for the test"


def shortened(config: TranslationConfig, dry_run: bool) -> TranslationConfig:
    """Returns the settings, in a dry run those of three steps of a tiny model."""
    tiny = {"steps": 3, "log_every": 1, "n_layer": 1, "n_embd": 32, "n_hidden": 32, "bpe_size": 400}
    return dataclasses.replace(config, **tiny) if dry_run else config


def train_shown(run: TranslationRun, tensorboard: bool = False, dry_run: bool = False) -> dict[str, Any] | None:
    """Trains, shows the progress, and returns the summary; None if Ctrl-C stopped it."""
    if run.task.too_long:
        most = run.task.config.block_size
        print(f"{run.task.too_long:,} pairs with more than {most} tokens on a side are left out of training and validation")
    if run.task.copies:
        print(f"{run.task.copies:,} further pairs have placeholders, to learn to copy names, numbers and unknown characters")
    print(f"{run.model.num_parameters():,} parameters")
    print(f"{named(run.folder, dry_run)}; Ctrl-C stops after the current step", flush=True)
    summary = train_watched(run, tensorboard)
    if summary is not None:
        part = f" over the first {len(run.task.validation):,} pairs" if run.config.eval_tokens else ""
        print(
            f"validation loss {summary['val_loss']:.4f} nats/token{part} ({summary['val_nats_per_byte']:.4f} nats/byte), "
            f"{summary['train_seconds']:.0f} s of training, {summary['tokens_per_second']:,.0f} target tokens/s"
        )
    return summary


# ---------------------------------------------------------------- the test


def fitting(translator: SentenceTranslator, pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """Returns (sources, references) of the pairs whose source fits into the model's block, and prints their number."""
    chosen = [pair for pair in pairs if translator.fits(pair[0])]
    if not chosen:
        raise DataError(f"no source of the test pairs has at most {translator.block_size} tokens")
    left_out = f", {len(pairs) - len(chosen)} longer sources left out" if len(chosen) < len(pairs) else ""
    print(f"testing on {len(chosen):,} sentences{left_out}", flush=True)
    return [source for source, _ in chosen], [target for _, target in chosen]


def baselines(known: Sequence[Pair], sources: Sequence[str]) -> Outputs:
    """Returns the translations of the two baselines, which only count in the training pairs."""
    return {"nearest": NearestSentence(known).translate(sources), "lexicon": WordLexicon(known).translate(sources)}


def translations(translator: SentenceTranslator, sources: Sequence[str]) -> Outputs:
    """Returns a translator's outputs, by greedy decoding and by beam search."""
    return {
        "greedy": [translator.translate(source, beams=1) for source in sources],
        f"beam {BEAMS}": [translator.translate(source, beams=BEAMS) for source in sources],
    }


def show(sources: Sequence[str], references: Sequence[str], outputs: Outputs) -> None:
    """Prints 10 of the sentences, evenly spread, with the output of every system."""
    last = len(sources) - 1
    width = max(len(name) for name in ("reference", *outputs))
    for i in [round(n * last / 9) for n in range(10)] if last > 9 else range(len(sources)):
        print()
        for name, texts in {"source": sources, "reference": references, **outputs}.items():
            print(f"{name:{width}}  {texts[i]}")
