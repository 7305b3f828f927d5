"""How all scripts meet a person: errors as one line, status 2; Ctrl-C without a traceback."""

import sys
from collections.abc import Callable

from tinylm.errors import TinylmError


def run(main: Callable[[], int | None]) -> None:
    """Runs main and exits with its status: 2 and one line on stderr for an error of the user's."""
    try:
        status = main()
    except TinylmError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        status = 2
    except BrokenPipeError:  # the reader of a stream went away
        sys.stderr.close()
        status = 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)
