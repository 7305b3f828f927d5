"""What the library says of a setting in Python's words, in those of the command line."""

import contextlib
from collections.abc import Iterator

from tinylm.errors import TinylmError

SAID = {  # by the library: by a command
    "resume=True or exist_ok=True": "--resume",
    "choose another folder": "choose another --out",
    "accept_new_data=True": "--accept-new-data",
    "valid=FILE": "--valid FILE",
    "test=FILE": "--test FILE",
    "folds=0": "--folds 0",
    "split=...": "--split",
    "extend_vocabulary=True": "--extend-vocabulary",
    "(encoding=...)": "(--encoding)",
    "weights='float32'": "--weights float32",
    "with exact=True": "with --exact",
    "that steps allows": "that --steps allows",
    "give each run MPIRanks()": "add --distributed",
    "so it cannot hold a conversation": "so it cannot hold a conversation: leave out --chat",
    "give a prompt": "give --prompt",
}


def in_options(message: str) -> str:
    """Returns a message of the library with the options of a command where it names what Python calls so."""
    for said, option in SAID.items():
        message = message.replace(said, option)
    return message


@contextlib.contextmanager
def errors_in_options() -> Iterator[None]:
    """Within it the library's errors have such messages, for what prints them itself: several processes."""
    try:
        yield
    except TinylmError as error:
        error.args = (in_options(str(error)),)
        raise
