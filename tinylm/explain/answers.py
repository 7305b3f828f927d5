"""What the answers to questions share: they show themselves as a table, in a terminal by `rich.print` and in a notebook."""

import io

from rich.console import Console

_WIDTH = 120  # characters
_MOST = 12_000  # characters of a table in a notebook


class Answer:
    """An answer that a notebook shows as the table that `rich.print` makes of its `__rich__`."""

    def _repr_html_(self) -> str:
        console = Console(record=True, file=io.StringIO(), width=_WIDTH, highlight=False)
        console.print(self)
        lines = [line.rstrip() for line in console.export_html(inline_styles=True, code_format="{code}").splitlines()]
        kept, size = 0, 0
        while kept < len(lines) and size + len(lines[kept]) <= _MOST:
            size += len(lines[kept]) + 1
            kept += 1
        more = f"\n… and {len(lines) - kept} more lines: rich.print shows all" if kept < len(lines) else ""
        text = "\n".join(lines[:kept]) + more
        return f'<pre style="white-space:pre;overflow-x:auto;line-height:normal;font-family:monospace">{text}</pre>'
