"""The labelled texts that `classify` trains and measures on, with a line for what of them could not be used."""

import dataclasses

from support.texts import say_what_was_read
from tinylm.data.labelled import LabelledTexts, load_parts
from tinylm.train.tasks.classifier_config import ClassifierConfig


def reported(source: str, data: LabelledTexts, dry_run: bool) -> LabelledTexts:
    """Returns the labelled texts, of a dry run about 200, and reports lines that could not be used."""
    lines, first = ("1 line", "") if data.skipped == 1 else (f"{data.skipped} lines", " is the first")
    skipped = f"{lines} of {source} skipped: {data.first_skipped}{first}" if data.skipped else ""
    say_what_was_read(source, data.notes, skipped, data.unread)
    if dry_run:
        some = slice(None, None, max(1, len(data.texts) // 200))
        data = dataclasses.replace(data, texts=data.texts[some], labels=data.labels[some])
    return data


def load_all(config: ClassifierConfig, dry_run: bool) -> LabelledTexts:
    """Returns the texts of a run, with the parts of their own that it has."""
    data = load_parts(config.data, config.valid, config.test, config.encoding)
    validation, test = (
        reported(source, part, dry_run) if part else None for source, part in ((config.valid, data.validation), (config.test, data.test))
    )
    return dataclasses.replace(reported(config.data, data, dry_run), validation=validation, test=test)


def shortened(config: ClassifierConfig, dry_run: bool) -> ClassifierConfig:
    return dataclasses.replace(config, epochs=1, members=1) if dry_run else config
