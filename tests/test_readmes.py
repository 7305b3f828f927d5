"""Every block of every README is executed, or quoted from the file that it names, or listed here with the reason."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from readme_blocks import ROOT, Block, blocks_of, commands_of, readmes
from readme_commands import NOT_RUN, SHORTER, make_runs
from script_helpers import script_here

from tinylm.verify.samples import makers

BLOCKS = [block for readme in readmes() for block in blocks_of(readme)]
QUOTED = [block for block in BLOCKS if "/" in block.word]
COMMANDS = [(block, command) for block in BLOCKS if block.language == "sh" for command in commands_of(block)]

# A block of language "text" is what a command prints, which nothing can repeat to the digit.
ELSEWHERE = {  # (language, the fence's second word): the test that runs such blocks
    ("c", "step"): "tests/test_kernel_steps.py",
    ("cuda", "step"): "tests/test_kernel_steps.py",
}
NOT_EXECUTED = {  # (README, how the block begins): why not
    ("kernels/README.md", '_OP = CudaSource("my_op")'): "a pattern with a gap; tests/bindings run the bindings written after it",
    ("kernels/README.md", '@kernel("my_op", device="cpu")'): "a pattern with a gap; tinylm/README.md adds a whole kernel",
}


def listed(block: Block) -> bool:
    return any(block.readme == readme and block.code.startswith(begin) for readme, begin in NOT_EXECUTED)


PYTHON = [block for block in BLOCKS if block.language == "python" and not block.word and not listed(block)]


def test_every_block_is_accounted_for() -> None:
    assert len(BLOCKS) > 40
    for block in BLOCKS:
        known = (
            block.language == "text"
            or block in PYTHON
            or block in QUOTED
            or block.language == "sh"
            or (block.language, block.word) in ELSEWHERE
        )
        assert known or listed(block), f"{block}: a block of {block.language!r} {block.word!r} that is neither executed nor listed"
    for readme, begin in NOT_EXECUTED:
        assert any(b.readme == readme and b.code.startswith(begin) for b in BLOCKS), f"{readme} has no block {begin!r} any more"
    for path in ELSEWHERE.values():
        assert (ROOT / path).exists(), path


def _parts(readme: str) -> list[list[Block]]:
    """The Python blocks that share their names: those of the first page each stand alone, those of another belong together."""
    blocks = [b for b in PYTHON if b.readme == readme]
    return [[b] for b in blocks] if readme == "README.md" else [blocks] if blocks else []


@pytest.mark.parametrize("blocks", [part for readme in readmes() for part in _parts(readme)], ids=lambda part: str(part[0]))
def test_python_blocks_run(blocks: list[Block]) -> None:
    registered = dict(makers)
    names: dict[str, object] = {}
    try:
        _run(blocks, names)
    finally:  # samples of ops that only a page has
        makers.clear()
        makers.update(registered)


def _run(blocks: list[Block], names: dict[str, object]) -> None:
    for block in blocks:
        exec(compile("\n" * block.line + block.code, str(ROOT / block.readme), "exec"), names)


@pytest.mark.parametrize("block", QUOTED, ids=str)
def test_quotations_are_in_their_files(block: Block) -> None:
    assert block.code.strip(), f"{block} quotes nothing"
    assert block.code in (ROOT / block.word).read_text(encoding="utf-8"), f"{block}: these lines are not in {block.word}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs that the commands read, and a module: the README's op."""
    folder = tmp_path_factory.mktemp("readme")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_runs(folder)
    for block in PYTHON:
        if "def scaled_softmax_samples" in block.code:
            (folder / "my_ops.py").write_text(block.code, encoding="utf-8")
    return folder


RUN = [(block, command) for block, command in COMMANDS if not any(command.startswith(begin) for begin in NOT_RUN)]


@pytest.mark.parametrize(("block", "command"), RUN, ids=[command for _, command in RUN])
def test_commands_run(block: Block, command: str, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python, script, *arguments = shlex.split(SHORTER.get(command, f"{command} --dry-run"))
    assert python == "python", f"{block}: {command} is no script of ours: list it in tests/readme_commands.py"
    monkeypatch.chdir(runs)
    result = script_here(Path(script).name, *arguments)
    assert (ROOT / script).exists(), f"{block}: {script}"
    assert result.returncode == 0, f"{block}: {command}\n{result.stdout}{result.stderr}"


def test_lists_of_commands_hold_what_the_pages_have() -> None:
    commands = [command for _, command in COMMANDS]
    inline = " ".join((ROOT / readme).read_text(encoding="utf-8") for readme in readmes())
    assert set(SHORTER) <= set(commands)
    for begin in NOT_RUN:
        assert begin in inline, f"no README has the command {begin!r} any more"


@pytest.mark.parametrize("readme", readmes())
def test_named_files_exist(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:tinylm|kernels|scripts|tests)/[\w/.]+)`", text):
        assert (ROOT / path).exists(), f"{readme}: {path}"


def _reading_order() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("## A reading order\n")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return re.findall(r"`([\w/.]+)`", " ".join(first_cells))


def _imported(file: str) -> set[str]:
    """The files of tinylm that a file imports, at its top or within functions."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {f"{name.replace('.', '/')}.py" for name in found}


def test_the_reading_order_visits_every_package_and_needs_only_what_came_before() -> None:
    order = _reading_order()
    assert len(order) == len(set(order)) > 40
    for package in (ROOT / "tinylm").glob("*/__init__.py"):
        assert any(file.startswith(f"tinylm/{package.parent.name}/") for file in order), package.parent.name
    for i, file in enumerate(order):
        assert (ROOT / file).is_file(), file
        assert not (later := _imported(file) & set(order[i + 1 :])), f"{file} imports {later}, which the order has after it"
