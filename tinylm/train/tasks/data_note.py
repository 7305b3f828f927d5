"""What a run is trained on: data.json in its folder, which is compared with the data when the run goes on."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinylm.data import Corpus, Tokenizer
from tinylm.data.labelled import LabelledTexts
from tinylm.data.pairs import Pairs
from tinylm.errors import CheckpointError, DataError, listed, printable
from tinylm.files.json_files import read_json, write_json
from tinylm.files.regular_files import exists

DATA_FILE = "data.json"
_SPLIT = ("train_characters", "validation_characters", "validation_files")


def data_note(data: str | Corpus | LabelledTexts | Pairs, source: str) -> dict[str, Any]:
    """Returns what data.json holds: about the data, and SHA-256 digests that depend on their order. source: the name for messages."""
    if isinstance(data, Corpus):
        return data.to_json()
    if isinstance(data, str):
        digests = {"text": hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()}
        return {"source": source, "characters": len(data), "digests": digests}
    if isinstance(data, LabelledTexts):
        contents = _labelled_contents(data, "")
        for name, part in (("validation ", data.validation), ("test ", data.test)):
            contents |= _labelled_contents(part, name) if part else {}
    else:
        contents = {f"{part} pairs": [side for pair in pairs for side in pair] for part, pairs in
                    (("training", data.train), ("validation", data.validation), ("test", data.test))}  # fmt: skip
    return {"source": source, "skipped": data.skipped, "digests": {name: digest_of(texts) for name, texts in contents.items()}}


def source_of(files: Mapping[str, Any]) -> str:
    """Returns the name of a run's data with a colon, from the files that its folder begins with; "" where they note nothing."""
    return f"{files[DATA_FILE]['source']}: " if DATA_FILE in files else ""


def token_counts(tokenizer: Tokenizer, train_ids: np.ndarray, val_ids: np.ndarray) -> str:
    """Returns how many tokens the parts of a text have, in words."""
    return f"{len(train_ids):,} tokens of {tokenizer.vocab_size:,} kinds, {len(val_ids):,} more for validation"


def _labelled_contents(data: LabelledTexts, part: str) -> dict[str, list[str]]:
    return {f"{part}texts": data.texts, f"{part}labels": [data.names[label] for label in data.labels.tolist()]}


def digest_of(texts: Sequence[str]) -> str:
    """Returns a SHA-256 of texts in their order."""
    digest = hashlib.sha256()
    for text in texts:
        raw = text.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


def what_changed(folder: Path, note: Mapping[str, Any]) -> str:
    """Returns a sentence about what in the data differs from what the run in the folder was trained on; "" for nothing, and for
    a run that did not note it. Raises CheckpointError for a damaged data.json."""
    stored = _stored(folder)
    if stored is None:
        return ""
    old, new = stored["digests"], note["digests"]
    if len(old) == len(new) == 1:  # a single file may have another name
        names = [f"{name} changed" for name in new if [*old.values()] != [*new.values()]]
    else:
        names = [f"{name} is gone" for name in old if name not in new] + [f"{name} is new" for name in new if name not in old]
        names += [f"{name} changed" for name in new if name in old and new[name] != old[name]]
        if not names and [stored.get(name) for name in _SPLIT] != [note.get(name) for name in _SPLIT]:
            names = ["the split into a training and a validation part changed"]
    if not names:
        return ""
    source, place, changed = repr(str(note["source"])), str(folder), [printable(name, 120) for name in names]
    return f"{printable(source, 90)} is not what the run in {printable(place, 90)} was trained on: {listed(changed, 180)}"


def check_data(folder: Path, note: Mapping[str, Any], accept: bool) -> None:
    """Raises DataError if the data are not those of the run in the folder, unless they are accepted."""
    if not accept and (problem := what_changed(folder, note)):
        raise DataError(f"{problem}; accept_new_data=True goes on with it, and the run notes that")


def keep_note(folder: Path, note: Mapping[str, Any], step: int) -> None:
    """Writes data.json if the run goes on with other data than it tells of, or if it has none; the old digests stay in `changes`,
    with the step up to which they were right."""
    stored = _stored(folder)
    if stored is None:
        write_json(folder / DATA_FILE, {**note, "noted_at_step": step})
    elif what_changed(folder, note):
        changes = [*stored.get("changes", []), {"until_step": step, "source": stored.get("source"), "digests": stored["digests"]}]
        write_json(folder / DATA_FILE, {**note, "changes": changes})


def _stored(folder: Path) -> dict[str, Any] | None:
    """Returns what data.json holds, None if there are no digests. Raises CheckpointError if it is damaged."""
    path = folder / DATA_FILE
    if not exists(path):
        return None
    try:
        record: Any = read_json(path)
        if not (isinstance(record, dict) and isinstance(record.get("digests", {}), dict) and isinstance(record.get("changes", []), list)):
            raise CheckpointError(f"{path} is damaged: expected a record with digests of the run's data")
    except CheckpointError as error:
        raise CheckpointError(f"{error}; without this file a run goes on with any data") from error
    return record if record.get("digests") else None
