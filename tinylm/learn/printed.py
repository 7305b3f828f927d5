"""Takes what a learner's file prints while it is marked, and shows the beginning and the end of it."""

import io
from collections import deque

from tinylm.errors import printable

FIRST, LAST = 3, 9  # lines that are shown: a print in a loop may give thousands


class Printed(io.TextIOBase):
    """Takes what the reader's file prints, and keeps its first and last lines: a loop may print thousands."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.count, self.open = list[str](), deque[str](maxlen=LAST), 0, ""

    def write(self, text: str) -> int:
        *lines, self.open = (self.open + text).split("\n")
        for line in lines:
            self.count += 1
            if len(self.first) < FIRST:
                self.first.append(line)
            else:
                self.last.append(line)
        return len(text)

    def show(self) -> None:
        """Prints the lines, each behind a bar; nothing if there are none."""
        if self.open:
            self.write("\n")
        if not self.count:
            return
        left = self.count - len(self.first) - len(self.last)
        middle = [f"... ({left} lines more)"] if left else []
        print(f"Your file printed {self.count} line{'s' * (self.count != 1)}:")
        for line in [*self.first, *middle, *self.last]:
            print(f"  | {printable(line, 200)}")
        print()
