"""What all pictures share: a figure that shows itself in a notebook, its PNG file, and colours for light and dark pages."""

import io
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from cycler import cycler
from matplotlib import rc_context, rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

_SHARPNESS = 144  # pixels per inch
_MOST_PIXELS = 4e7  # of a picture, 160 MB while it is drawn
_LONGEST_SIDE = 60_000  # pixels; the renderer takes 65,535

_DARK: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), "#e3e8ef"),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor"), "#14171c"),
    **dict.fromkeys(("axes.edgecolor", "grid.color", "legend.edgecolor"), "#a3adbb"),
    "axes.prop_cycle": cycler(
        color=["#6ea2ff", "#ff9a5c", "#7fd197", "#ff8a8a", "#c3a6ff", "#d0a38c", "#f3a3dc", "#b3bcc8", "#d9dc72", "#6fd6e3"]
    ),
}


class Picture(Figure):
    """A figure that shows itself in a notebook."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(figure: Figure) -> bytes:
    """Returns the figure as the bytes of a PNG file: 144 pixels per inch, fewer if the picture were too large. Characters
    that the font lacks are drawn as boxes."""
    wide, high = figure.get_size_inches()
    figure.set_dpi(min(_SHARPNESS, math.sqrt(_MOST_PIXELS / (wide * high)), _LONGEST_SIDE / max(wide, high)))
    image = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        FigureCanvasAgg(figure).print_png(image)
    return image.getvalue()


def light_and_dark(draw: Callable[[], Figure]) -> tuple[bytes, bytes]:
    """Returns what `draw` makes as two PNG files, one for light pages and one for dark ones."""
    light = png(draw())
    with rc_context(_DARK):
        return light, png(draw())


def dark_paper() -> bool:
    """Whether pictures made now have a dark background, as matplotlib's settings say."""
    return luminance(rcParams["figure.facecolor"]) < 0.2


def luminance(color: Any) -> float:
    """Returns the relative luminance of a colour: 0 for black, 1 for white.  WCAG 2.2."""
    parts = np.array(to_rgb(color))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def ink_on(color: Any) -> str:
    """Returns black or white, whichever has the higher contrast with a colour."""
    return "black" if luminance(color) > 0.179 else "white"


def accent() -> str:
    """Returns the colour of what stands out, and of values above 0 where none are below."""
    return "#7cb8ee" if dark_paper() else "#0f62a8"


def cold_and_hot() -> tuple[str, str]:
    """Returns the colours of values below 0 and above 0."""
    return ("#6ea2ff", "#ff9a5c") if dark_paper() else ("#2563c9", "#c2410c")


def color_map(diverging: bool) -> Colormap:
    """Returns the colours of a heat map: from the background to the accent, or cold below 0 and hot above. What is not a
    number is grey."""
    paper = rcParams["axes.facecolor"]
    cold, hot = cold_and_hot()
    deep = ("#cfe6fb", "#5fa8e6") if dark_paper() else ("#08306b", "#3f8fcb")
    colors = [cold, paper, hot] if diverging else [paper, deep[1], deep[0]]
    return LinearSegmentedColormap.from_list("values", colors).with_extremes(bad="#808080")
