"""Reads the READMEs: their blocks of code, and the commands in the shell blocks."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {"node_modules", "build", "dist"}  # and every folder whose name begins with a dot
_FENCE = re.compile(r"^( *)```(.*)\n(?:((?:.*\n)*?)\1```\n|\Z)", re.MULTILINE)  # \Z: no end, an error below


@dataclass(frozen=True)
class Block:
    """A block of code: its README relative to the root, the line of its fence, the two words of the fence, the code."""

    readme: str
    line: int
    language: str
    word: str  # the second word: the file that is quoted, or a name by which the page's own test finds the block
    code: str

    def __str__(self) -> str:
        return f"{self.readme}:{self.line}"


def readmes() -> list[str]:
    """Returns every README of the checkout."""
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("README.md"))
    return sorted(str(p) for p in paths if not any(part.startswith(".") or part in SKIPPED for part in p.parts))


def blocks_of(readme: str) -> list[Block]:
    """Returns the blocks of a README in order. Raises ValueError if one has no end."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        indent, words, code = match.groups()
        line = text.count("\n", 0, match.start()) + 1
        if code is None:
            raise ValueError(f"{readme}:{line}: a block without an end")
        language, _, word = words.strip().partition(" ")
        found.append(Block(readme, line, language, word, re.sub(f"^{indent}", "", code, flags=re.MULTILINE)))
    return found


def commands_of(block: Block) -> list[str]:
    """Returns the commands of a shell block: one per line, or several joined by `&&`; comments are left out."""
    lines = block.code.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    joined = [shlex.join(each) for each in words if each]
    return [command.strip() for line in joined for command in re.split(r" '&&' ", line)]
