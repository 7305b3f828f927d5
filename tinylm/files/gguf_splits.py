"""A model in several GGUF files, NAME-00001-of-00003.gguf and so on, as llama.cpp's `gguf-split` writes them.

The first part has the metadata of the model; each says with split.no (from 0) and split.count which one it is.
"""

import re
from pathlib import Path

from tinylm.errors import CheckpointError, listed
from tinylm.files.gguf_files import GgufFile, read_gguf
from tinylm.files.regular_files import exists

_MOST = 99999  # parts: the names have five digits
_NAME = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
_ENTRIES = ("split.no", "split.count", "split.tensors.count")


def read_whole_gguf(path: Path) -> GgufFile:
    """Returns the metadata and tensors of a GGUF file, or of all the parts of a model of which `path` is any one.

    Raises CheckpointError as `read_gguf` does, and naming parts that are missing, or that do not belong together.
    """
    named = read_gguf(path)
    count = named.metadata.get("split.count", 1)
    if type(count) is not int or not 0 <= count <= _MOST:
        raise CheckpointError(f"{path}: split.count is {count!r:.40}, expected 0 to {_MOST} parts")
    if count <= 1:
        return named
    number, match = named.metadata.get("split.no"), _NAME.fullmatch(path.name)
    if type(number) is not int or not 0 <= number < count:
        raise CheckpointError(f"{path}: split.no is {number!r:.40}, expected 0 to {count - 1} of {count} parts")
    ending = f"-{number + 1:05}-of-{count:05}.gguf"
    if match is None or not path.name.endswith(ending):
        raise CheckpointError(f"{path} is part {number + 1} of {count} of a model: expected a name that ends with {ending}")
    places = [path.with_name(f"{match[1]}-{i + 1:05}-of-{count:05}.gguf") for i in range(count)]
    if missing := [place.name for place in places if not exists(place)]:
        raise CheckpointError(f"{path} is part {number + 1} of {count}, and others are missing: {listed(missing)}")
    parts = [named if i == number else read_gguf(place) for i, place in enumerate(places)]
    tensors = {}
    for i, part in enumerate(parts):
        said = [part.metadata.get(name) for name in _ENTRIES[:2]]
        if said != [i, count]:
            raise CheckpointError(f"{part.path}: split.no and split.count are {said!s:.60}, expected {[i, count]} as its name says")
        if twice := next((name for name in part.tensors if name in tensors), None):
            raise CheckpointError(f"{part.path}: the tensor {twice!r:.80} stands in another part too")
        tensors.update(part.tensors)
    total = parts[0].metadata.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise CheckpointError(f"{parts[0].path}: split.tensors.count is {total!r:.40}, and the {count} parts have {len(tensors)} tensors")
    metadata = {name: value for name, value in parts[0].metadata.items() if name not in _ENTRIES}
    return GgufFile(parts[0].path, metadata, tensors)
