"""Writes cupy_api.json: the names and parameters of the installed CuPy. Importing it needs no GPU.

Run `python generate_api.py` in an environment with NumPy, SciPy and the CuPy that the stand-in follows.
"""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import cupy
import cupyx
import cupyx.scipy.special

MODULES = {
    "cupy": cupy,
    "cupy.linalg": cupy.linalg,
    "cupy.cuda": cupy.cuda,
    "cupy.cuda.runtime": cupy.cuda.runtime,
    "cupy.cuda.nvrtc": cupy.cuda.nvrtc,
    "cupyx": cupyx,
    "cupyx.scipy.special": cupyx.scipy.special,
}
CLASSES = {
    "cupy.ndarray": cupy.ndarray,
    "cupy.flags": cupy._core.flags.Flags,
    "cupy.RawModule": cupy.RawModule,
    "cupy.RawKernel": cupy.RawKernel,
    "cupy.cuda.Stream": cupy.cuda.Stream,
    "cupy.cuda.Event": cupy.cuda.Event,
    "cupy.cuda.Device": cupy.cuda.Device,
}


def parameters(f: Any) -> str | None:
    """Returns "a, axis=, *, dtype=" of a function, from its signature or the first line of its docstring."""
    try:
        kinds = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        first = (f.__doc__ or "").strip().split("\n")[0]
        found = re.match(r"[\w.]+\((.*?)\)(?: ->.*)?$", first)
        return None if found is None else ", ".join(map(_bare, _split(found[1])))
    out, seen = [], None
    for p in kinds:
        if seen is inspect.Parameter.POSITIONAL_ONLY and p.kind is not seen:
            out.append("/")
        if p.kind is p.KEYWORD_ONLY and seen not in (p.KEYWORD_ONLY, p.VAR_POSITIONAL):
            out.append("*")
        seen = p.kind
        stars = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        out.append(stars + p.name + ("" if stars or p.default is p.empty else "="))
    return ", ".join(out)


def _split(text: str) -> list[str]:
    return [p.strip().replace("\\", "") for p in re.split(r",\s*(?![^(]*\))", text) if p.strip()]


def _bare(parameter: str) -> str:
    """Returns "axis=" for "int axis=None"."""
    name, given, _ = parameter.partition("=")
    return name.split()[-1] + given


def kind(o: Any) -> str:
    if isinstance(o, cupy.ufunc):
        return f"ufunc {o.nin}"
    if inspect.isclass(o):
        return "class"
    if not callable(o):
        return "value"
    known = parameters(o)
    return "function" if known is None else f"function {known}"


def names(owner: Any) -> dict[str, str]:
    return {n: kind(getattr(owner, n)) for n in dir(owner) if not n.startswith("_") and not inspect.ismodule(getattr(owner, n))}


if __name__ == "__main__":
    api: dict[str, Any] = {"version": cupy.__version__, **{k: names(m) for k, m in (MODULES | CLASSES).items()}}
    target = Path(__file__).with_name("cupy_api.json")
    target.write_text(json.dumps(api, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    print(target, api["version"], {k: len(v) for k, v in api.items() if k != "version"})
