"""What a run reads, as the arguments of the questions' functions."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinylm.errors import DataError
from tinylm.explain.reading import ClassifierReading, Reading, TranslationReading


def asked(read: Reading) -> dict[str, Any]:
    """Returns the text as `subject_of` takes it: ids, a translator's source, a classifier's label."""
    match read:
        case TranslationReading():
            return {"ids": read.ids, "source": read.source}
        case ClassifierReading():
            return {"ids": read.ids, "label": read.labels.index(read.label)}
    return {"ids": read.ids}


def asked_beside(read: Reading, text: str) -> dict[str, Any]:
    """Returns what was read and another text as `patch` takes them. Unless a translation was given, those of the two texts are cut
    where they part. Raises DataError for a text that is empty or cannot be encoded."""
    if not text:
        raise DataError("the other text is empty")
    if not isinstance(read, TranslationReading):
        return {"ids": read.ids, "other": read.encode(text)}
    ids = read.ids[:-1]
    if not read.given:
        vocabulary = read.translator.vocabulary
        theirs = vocabulary.write(read.translator.translate(text, beams=1), vocabulary.read(text)[1])
        shared = min(len(ids) - 1, len(theirs))
        same = np.append(ids[1 : 1 + shared] == theirs[:shared], False)
        ids = ids[: 1 + int(same.argmin())]
    return {"ids": ids, "source": read.source, "other": read.encode(text)}


def answer_name(read: Reading) -> Callable[[int], str]:
    """Returns what the ids that the model says are called: tokens, or a classifier's labels."""
    return read.labels.__getitem__ if isinstance(read, ClassifierReading) else read.token_text
