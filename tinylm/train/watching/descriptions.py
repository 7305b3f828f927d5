"""What a run is, in one line, and in a notebook as a table."""

from html import escape
from typing import Any


class Described:
    """An object that tells what it is: its `facts` in one line, and in a notebook as a table."""

    def facts(self) -> dict[str, str]:
        """Returns what there is to tell, by name."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {'; '.join(f'{name} {fact}' for name, fact in self.facts().items())}>"

    def _repr_html_(self) -> str:
        left = 'style="text-align: left"'
        rows = "".join(f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(fact)}</td></tr>" for name, fact in self.facts().items())
        return f"<table><caption {left}>{escape(type(self).__name__)}</caption>{rows}</table>"


def described_model(name: str, model: Any) -> str:
    """Returns a model's name and size; n-grams that are not counted yet have none."""
    size = model.num_parameters()
    return f"{name}, {size:,} parameters" if size else name
