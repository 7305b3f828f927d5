"""Writes figures together with the numbers that they show."""

import io
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tinylm.files.atomic import write_atomically
from tinylm.files.json_files import write_json


def write(folder: Path, name: str, record: dict[str, Any], figure: Figure) -> None:
    """Writes name.json and name.png, replacing earlier ones."""
    image = io.BytesIO()
    FigureCanvasAgg(figure).print_png(image)
    write_json(folder / f"{name}.json", record)
    write_atomically(folder / f"{name}.png", image.getvalue())
    print(f"written: {folder / name}.json and .png")
