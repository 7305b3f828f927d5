"""The console command `tinylm COMMAND ...`, also started as `python -m tinylm COMMAND ...`: runs scripts/COMMAND.py."""

import ast
import difflib
import sys
import types
from pathlib import Path

from tinylm import __version__
from tinylm.errors import one_line


def scripts_folder() -> Path:
    """Returns the folder of the scripts: inside the package where a wheel was installed, beside it in a checkout."""
    package = Path(__file__).parent
    installed = package / "_scripts"
    return installed if installed.is_dir() else package.parent / "scripts"


def overview(program: str, commands: dict[str, Path]) -> str:
    """Returns the usage line and one line per command: its name and the first line of its docstring, read without importing it."""
    width = max(map(len, commands))
    docstrings = {name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or name for name, path in commands.items()}
    lines = [f"  {name:{width}}  {docstring.splitlines()[0]}" for name, docstring in docstrings.items()]
    return "\n".join([f"usage: {program} COMMAND [...]", "", *lines, "", f"'{program} COMMAND --help' lists what a command accepts."])


def main() -> int:
    """Runs the command that the first argument names on the arguments after it, as `python scripts/COMMAND.py` would."""
    program = "python -m tinylm" if Path(sys.argv[0]).name == "__main__.py" else "tinylm"
    commands = {path.stem: path for path in sorted(scripts_folder().glob("*.py"))}
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print(overview(program, commands))
        return 0
    if name == "--version":
        print(f"tinylm {__version__}")
        return 0
    if name not in commands:
        similar = difflib.get_close_matches(name, commands, n=1)
        hint = f"did you mean {similar[0]!r}?" if similar else f"'{program} --help' lists them"
        print(f"error: {one_line(f'there is no command {name!r}: {hint}')}", file=sys.stderr)
        return 2
    sys.argv = [f"{program} {name}", *arguments]  # the name for usage lines and messages; runpy would put the file's path here
    sys.path.insert(0, str(scripts_folder()))  # where the scripts find support/ and benchmark/
    script = sys.modules["__main__"] = types.ModuleType("__main__")
    script.__file__ = str(commands[name])
    exec(compile(commands[name].read_bytes(), commands[name], "exec"), vars(script))
    return 0


if __name__ == "__main__":
    sys.exit(main())
