"""Builds the API reference as web pages, from the docstrings."""

import contextlib
import html
import importlib
import inspect
import itertools
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from support import console

from tinylm.engine import tensor
from tinylm.errors import CheckpointError, ConfigError

PACKAGES = (
    "tinylm", "tinylm.ops", "tinylm.nn", "tinylm.optim", "tinylm.models", "tinylm.data", "tinylm.train", "tinylm.decode",
    "tinylm.verify", "tinylm.explain", "tinylm.errors",
)  # fmt: skip
_SHORT = {  # in signatures: short names, and the aliases of the stubs, by what Python makes of them
    "tinylm.engine.tensor.Tensor | tinylm.ops._ArrayLike | float | list[typing.Any]": "ArrayLike",
    "int | collections.abc.Sequence[int] | None": "Axis",
    "typing.": "",
    "collections.abc.": "",
    "numpy.": "np.",
}
_FOOTER = (
    "Examples assume “import numpy as np” and “import tinylm”. In signatures, ArrayLike is a tensor, an array, a number or nested "
    "lists, and Axis one axis, several, or None for all."
)


@dataclass(frozen=True)
class Arguments:
    """Builds the API reference from the docstrings: one page for each package, with a search field. Needs pdoc (pip install pdoc)."""

    out: Path = Path("build/reference")
    """the folder to write to; open index.html in it"""
    dry_run: bool = False
    """build the first page, and write nothing"""


class Named:
    """A type in a signature, shown by the text that it is made of."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def named(annotation: Any, short: Mapping[str, str]) -> Any:
    """Returns the type of a parameter with short names, which `short` gives."""
    if annotation is inspect.Parameter.empty:
        return annotation
    text = inspect.formatannotation(annotation)
    for long, name in short.items():
        text = text.replace(long, name)
    return Named(text)


def readable(signature: inspect.Signature, short: Mapping[str, str]) -> inspect.Signature:
    """Returns a signature whose types have short names."""
    parameters = [p.replace(annotation=named(p.annotation, short)) for p in signature.parameters.values()]
    return signature.replace(parameters=parameters, return_annotation=named(signature.return_annotation, short))


def docstring_html(text: str) -> str:
    """Returns a docstring as HTML: paragraphs, lists, indented formulas and examples, all as they were typed."""
    parts = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = block.splitlines()
        if lines and (lines[0].startswith((">>>", "    "))):
            parts.append(f'<div class="pdoc-code codehilite"><pre>{html.escape(inspect.cleandoc(block))}</pre></div>')
        elif lines:
            for listed, together in itertools.groupby(_items(lines), key=lambda item: item.startswith("- ")):
                words = [re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(item.removeprefix("- "), quote=False)) for item in together]
                spaced = [word.replace(".  ", ".&emsp;") for word in words]
                parts += [f"<ul><li>{'</li><li>'.join(spaced)}</li></ul>"] if listed else [f"<p>{each}</p>" for each in spaced]
    return "\n".join(parts)


def _items(lines: list[str]) -> list[str]:
    """Returns the lines joined, but the items of a list apart."""
    found = [lines[0]]
    for line in lines[1:]:
        if line.startswith("- "):
            found.append(line)
        else:
            found[-1] += f" {line.strip()}"
    return found


def homes(modules: list[ModuleType]) -> dict[tuple[str, str], str]:
    """Returns the package that exports a name, by the module that defines it and the name; what needs a missing PyTorch is left out."""
    found = {}
    for module in modules:
        for name in getattr(module, "__all__", ()):
            with contextlib.suppress(ConfigError):
                value = vars(module)[name] = getattr(module, name)  # pdoc looks there; some names are loaded when first used
                if isinstance(value, type) or inspect.isfunction(value):
                    found.setdefault((value.__module__, value.__name__), module.__name__)
    return found


def lead_home(module: Any, home: Mapping[tuple[str, str], str]) -> None:
    """Makes base classes and inherited members lead to the pages of the packages that export them."""

    def moved(place: tuple[str, str]) -> tuple[str, str]:
        return home.get((place[0], place[1].partition(".")[0]), place[0]), place[1]

    for each in module.members.values():
        if each.kind == "class" and each.own_members is not None:
            each.bases = [(*moved(base[:2]), base[1]) for base in each.bases]
            inherited = {moved(base): members for base, members in each.inherited_members.items()}
            hidden = [base for base in inherited if base[0].startswith("tinylm.") and base[0] not in PACKAGES]
            each.own_members += [member for base in hidden for member in inherited.pop(base)]  # of bases that nobody exports
            each.inherited_members = inherited
            for member in itertools.chain(*each.inherited_members.values()):
                member.taken_from = moved(member.taken_from)


def signatures_of_methods() -> dict[str, inspect.Signature]:
    """Returns the signatures of the methods that ops gives to Tensor, with the types of their stub."""
    stub = Path(tensor.__file__).with_name("tensor_methods.pyi")
    names: dict[str, Any] = {}
    exec(compile(stub.read_text(encoding="utf-8"), str(stub), "exec"), names)
    return {name: inspect.signature(method) for name, method in vars(names["TensorMethods"]).items() if inspect.isfunction(method)}


def pages(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Returns the files of the reference by name. packages: "tinylm" and others. Raises ConfigError without pdoc."""
    try:
        import pdoc
        import pdoc.doc_pyi
        import pdoc.render
        import pdoc.render_helpers
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed: pip install pdoc") from error
    modules = [importlib.import_module(name) for name in packages]
    home = homes(modules)
    short = _SHORT | {f"{module}.{name}": name for module, name in home}
    environment = pdoc.render.env
    environment.filters["to_markdown"] = str
    environment.filters["to_html"] = docstring_html
    formatted = pdoc.render_helpers.format_signature
    environment.filters["format_signature"] = lambda signature, colon: formatted(readable(signature, short), colon)
    pdoc.render.configure(docformat="markdown", footer_text=_FOOTER, show_source=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Cannot determine where")  # fields of dataclasses
        found = {module.__name__: pdoc.doc.Module(module) for module in modules}
        for documented in found.values():
            about = documented.docstring
            pdoc.doc_pyi.include_typeinfo_from_stub_files(documented)
            documented.docstring = about  # not that of the stub
            documented.submodules = [each for name, each in found.items() if name.startswith(f"{documented.modulename}.")]
            lead_home(documented, home)
        top: Any = found["tinylm"].members
        for name, signature in signatures_of_methods().items():
            if name in top["Tensor"].members:
                top["Tensor"].members[name].signature = signature
        for name in importlib.import_module("tinylm.ops").__all__:  # they have a page of their own
            top.pop(name, None)
        made = {f"{name.replace('.', '/')}.html": pdoc.render.html_module(each, found) for name, each in found.items()}
        return {**made, "index.html": pdoc.render.html_index(found), "search.js": pdoc.render.search_index(found)}


def main() -> None:
    arguments = console.parse(Arguments)
    made = pages(PACKAGES[:1] if arguments.dry_run else PACKAGES)
    if arguments.dry_run:
        print(f"{len(made)} files, not written (dry run)")
        return
    for name, text in made.items():
        path = arguments.out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CheckpointError(f"cannot write {path}: {error.strerror}") from error
    print(f"{len(made)} files: open {arguments.out / 'index.html'}")


if __name__ == "__main__":
    console.run(main)
