"""Every block of every README is executed, or quoted from the file that it names, or listed here with the reason."""

import ast
import re
import shlex
from pathlib import Path

import pytest
from readme_blocks import ROOT, Block, blocks_of, commands_of, readmes
from readme_commands import NOT_RUN, SHORTER, make_runs
from script_helpers import script_here

from tinylm.studies.scaling_laws import fit_scaling_law
from tinylm.verify.samples import makers

BLOCKS = [block for readme in readmes() for block in blocks_of(readme)]
QUOTED = [block for block in BLOCKS if "/" in block.word]
COMMANDS = [(block, command) for block in BLOCKS if block.language == "sh" for command in commands_of(block)]

# A block of language "text" is what a command prints; its numbers are different on every machine.
ELSEWHERE = {  # (language, the fence's second word): the test that runs such blocks
    ("c", "step"): "tests/scripts/test_kernel_steps.py",
    ("cuda", "step"): "tests/scripts/test_kernel_steps.py",
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
    """Returns the Python blocks that share their names: each block of the first page is alone, those of another page belong together."""
    blocks = [b for b in PYTHON if b.readme == readme]
    return [[b] for b in blocks] if readme == "README.md" else [blocks] if blocks else []


@pytest.mark.parametrize("blocks", [part for readme in readmes() for part in _parts(readme)], ids=lambda part: str(part[0]))
def test_python_blocks_run(blocks: list[Block], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registered = dict(makers)
    names: dict[str, object] = {}
    try:
        _run(blocks, names)
    finally:  # the samples of ops that are only in a README
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
    """Returns a folder with the runs that the commands read, and with my_ops.py, the op of verify/README.md."""
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
    assert python == "python", f"{block}: {command} is not one of the scripts: list it in tests/readme_commands.py"
    monkeypatch.chdir(runs)
    monkeypatch.setattr(fit_scaling_law, "__defaults__", (0, 20))  # the usual number of resamples takes six seconds
    result = script_here(Path(script).name, *arguments)
    assert (ROOT / script).exists(), f"{block}: {script}"
    assert result.returncode == 0, f"{block}: {command}\n{result.stdout}{result.stderr}"


def test_lists_of_commands_hold_what_the_pages_have() -> None:
    commands = [command for _, command in COMMANDS]
    inline = " ".join((ROOT / readme).read_text(encoding="utf-8") for readme in readmes())
    assert set(SHORTER) <= set(commands)
    for begin in NOT_RUN:
        assert begin in inline, f"no README has the command {begin!r} any more"


PATH = re.compile(r"`((?:tinylm|kernels|scripts|tests)/[\w/.]+)`")
SOURCE = re.compile(r"`([\w/]+\.(?:py|pyi|c|h|cu|cuh|cpp|md))`")  # by the end of its path, as in a README beside it
LINK = re.compile(r"\]\(([^)\s]+)\)")
FRONT = "README.md"
READING = "tinylm/README.md"


def text_of(readme: str) -> str:
    """Returns a README without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", (ROOT / readme).read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors_of(readme: str) -> set[str]:
    """Returns the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text_of(readme), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(scope="module")
def sources() -> list[str]:
    """Returns the paths of all files of the checkout."""
    folders = [ROOT / name for name in ("tinylm", "kernels", "scripts", "tests")]
    return [f"/{path.relative_to(ROOT)}" for folder in folders for path in folder.rglob("*.*")]


@pytest.mark.parametrize("readme", readmes())
def test_named_files_exist(readme: str, sources: list[str]) -> None:
    text = text_of(readme)
    for path in PATH.findall(text):
        assert (ROOT / path).exists(), f"{readme}: {path}"
    for name in SOURCE.findall(text):
        assert any(path.endswith(f"/{name}") for path in sources), f"{readme}: {name}"


@pytest.mark.parametrize("readme", readmes())
def test_links_resolve(readme: str) -> None:
    for target in LINK.findall(text_of(readme)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        page = (ROOT / readme).parent / path if path else ROOT / readme
        assert page.exists(), f"{readme}: {target}"
        if anchor:
            assert anchor in anchors_of(str(page.resolve().relative_to(ROOT))), f"{readme}: {target}"


def test_every_readme_is_reached_from_the_first() -> None:
    reached, found = set(), [FRONT]
    while found:
        page = found.pop()
        if page not in reached:
            reached.add(page)
            targets = [target.partition("#")[0] for target in LINK.findall(text_of(page))]
            paths = [((ROOT / page).parent / t).resolve() for t in targets if t.endswith("README.md") and "://" not in t]
            found += [str(path.relative_to(ROOT)) for path in paths]
    assert reached == set(readmes())


def test_the_first_page_is_short_and_has_every_command() -> None:
    text = (ROOT / FRONT).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 200
    for command in (ROOT / "scripts").glob("*.py"):
        assert f"`{command.stem}`" in text, command.stem
        assert f"## {command.stem}\n" in (ROOT / "scripts" / "README.md").read_text(encoding="utf-8"), command.stem


def listed_files(heading: str) -> list[str]:
    """Returns the files in the first column of the table under a heading of tinylm/README.md, in order."""
    section = (ROOT / READING).read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [f"tinylm/{name}" for name in re.findall(r"`([\w/.]+)`", " ".join(first_cells))]


def file_of(module: str) -> str | None:
    """Returns the file of a module of tinylm, a package's being its __init__; None if it is no module of tinylm."""
    if module.partition(".")[0] != "tinylm":
        return None
    path = module.replace(".", "/")
    return next((file for file in (f"{path}.py", f"{path}/__init__.py") if (ROOT / file).is_file()), None)


def imported(file: str) -> set[str]:
    """Returns the files of tinylm that a file imports, at its top, within functions or for types alone.

    `from tinylm import ops` imports tinylm/ops/__init__.py, and through it all that is imported there.
    """
    found: set[str | None] = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {file_of(f"{node.module}.{alias.name}") or file_of(node.module) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names}
    return {each for each in found if each is not None} - {file}


def test_the_reading_order_visits_every_package_and_needs_only_what_came_before() -> None:
    order = listed_files("The whole order")
    assert len(order) == len(set(order)) > 100
    for package in (ROOT / "tinylm").glob("*/__init__.py"):
        assert any(file.startswith(f"tinylm/{package.parent.name}/") for file in order), package.parent.name
    for i, file in enumerate(order):
        assert (ROOT / file).is_file(), file
        assert not (later := imported(file) - set(order[:i])), f"{file} imports {sorted(later)}, which the order does not have before it"


def test_the_first_hour_is_short_and_in_order() -> None:
    hour = listed_files("A first hour")
    assert hour[0] == "tinylm/ops/pointwise.py"
    assert set(hour) <= set(listed_files("The whole order"))
    assert 700 <= sum(len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in hour) <= 1300
    for i, file in enumerate(hour):
        later = imported(file) & set(hour[i + 1 :])
        assert later <= ({"tinylm/engine/op.py"} if i == 0 else set()), f"{file} imports {sorted(later)}"  # the page says what @op is


def test_imports_through_a_package_count() -> None:
    """A name that comes through a package counts as an import of the package."""
    assert "tinylm/ops/__init__.py" in imported("tinylm/nn/layers.py")
    assert "tinylm/engine/op.py" in imported("tinylm/ops/pointwise.py")
