"""The library's messages name settings as Python does; an option such as --resume is a command's word for one."""

import ast
import re
import sys
from pathlib import Path
from unittest import mock

import pytest
from readme_blocks import ROOT
from script_helpers import SCRIPTS

from tinylm.errors import ConfigError

with mock.patch.object(sys, "path", [str(SCRIPTS), *sys.path]):
    from support import wording

SOURCES = [path for path in sorted((ROOT / "tinylm").rglob("*.py")) if path.name != "__main__.py"]  # which is the command line
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
OF_OTHERS = re.compile(r"pip install --[\w-]+|--gpus|var\(--[\w-]+\)")  # of pip, of containers, and of style sheets


def texts_in(code: str) -> list[tuple[int, str]]:
    """Returns (line, text) of each string of a program, those within f-strings too, without docstrings."""
    nodes = list(ast.walk(ast.parse(code)))
    described = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    strings = (node for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in described)
    return [(node.lineno, str(node.value)) for node in strings]


def options_in(texts: list[tuple[int, str]]) -> list[str]:
    """Returns 'line: option' for each option that a text names."""
    found = ((line, OPTION.findall(OF_OTHERS.sub("", text))) for line, text in texts if "--" in text)
    return [f"{line}: {option}" for line, options in found for option in options]


@pytest.fixture(scope="module")
def library() -> dict[Path, list[tuple[int, str]]]:
    """Returns the strings of every file of the library that has a word of interest."""
    words = ("--", *wording.SAID)
    files = {path: path.read_text(encoding="utf-8") for path in SOURCES}
    return {path: texts_in(code) for path, code in files.items() if any(word in code for word in words)}


def test_no_message_of_the_library_names_an_option(library: dict[Path, list[tuple[int, str]]]) -> None:
    assert len(SOURCES) > 300, "the files were found"
    found = [f"{path.relative_to(ROOT)}, line {each}" for path, texts in library.items() for each in options_in(texts)]
    assert found == [], "say the setting's name, and let scripts/support/wording.py translate"


def test_which_options_are_found() -> None:
    code = '"""with --init"""\nraise ValueError(f"{x}: give --resume or (--out {y}); --lr: 3")\n'
    assert options_in(texts_in(code)) == ["2: --resume", "2: --out", "2: --lr"]
    assert options_in(texts_in('a = "var(--line) pip install --no-deps x, a--b, --"\n')) == []
    assert options_in(texts_in('def f():\n    """--help"""\n    return "--help"\n')) == ["3: --help"]


def test_what_a_command_says_instead(library: dict[Path, list[tuple[int, str]]]) -> None:
    said_there = [text for texts in library.values() for _, text in texts]
    files = [path for folder in (SCRIPTS, ROOT / "tinylm" / "train" / "tasks") for path in folder.rglob("*.py")]
    commands = "".join(path.read_text(encoding="utf-8") for path in files)
    for said, option in wording.SAID.items():
        assert any(said in text for text in said_there), f"the library does not say {said!r} any more"
        (name,) = OPTION.findall(option)
        assert re.search(rf"^    {name.removeprefix('--').replace('-', '_')}: ", commands, re.MULTILINE), f"no command has {name}"


def test_an_error_in_the_words_of_a_command() -> None:
    with pytest.raises(ConfigError, match=r"^continue it with --resume, or choose another --out$"), wording.errors_in_options():
        raise ConfigError("continue it with resume=True or exist_ok=True, or choose another folder")
    assert wording.in_options("accept_new_data=True goes on with it") == "--accept-new-data goes on with it"
    assert wording.in_options("nothing to say otherwise") == "nothing to say otherwise"
