"""tinylm.explain.heat_map and bars: what they show, labels that can be read, and colours for light and dark pages."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba

from tinylm.errors import ShapeError
from tinylm.explain.drawing import bars, heat_map
from tinylm.explain.figures import LightAndDark, ink_on, light_and_dark, luminance

PNG = b"\x89PNG\r\n\x1a\n"


def texts(axes, gid):
    return [text.get_text() for text in axes.texts if text.get_gid() == gid]


def test_a_heat_map():
    values = np.array([[0.5, -2.0, 0.0], [np.nan, 1.0, 0.25]])
    figure = heat_map(values, ["layer 0", "layer 1"], ["a", " b", "\n"], title="$lens", bar_label="logit (nats)", diverging=True)
    cells, bar = figure.axes
    np.testing.assert_array_equal(np.asarray(cells.images[0].get_array())[1, 1:], values[1, 1:])
    assert cells.images[0].get_clim() == (-2, 2), "0 is in the middle"
    assert bar.get_ylabel().replace("\n", " ") == "logit (nats)"
    assert cells.get_title("left") == "$lens"
    assert texts(cells, "row label") == ["layer 0", "layer 1"], "blanks inside a label stay blanks"
    assert texts(cells, "column label") == ["a", "·b", "⏎"]
    assert texts(cells, "value") == ["0.50", "−2.00", "1.00", "0.25"], "neither exact zeros nor what is not a number"
    FigureCanvasAgg(figure).draw()
    boxes = [text.get_window_extent() for text in cells.texts if text.get_gid() == "value"]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
    assert_inside(figure)


def assert_inside(figure):
    """All texts are inside the picture."""
    FigureCanvasAgg(figure).draw()
    for text in figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_text() and artist.get_visible()):
        box = text.get_window_extent()
        assert min(box.x0, box.y0) >= 0, text
        assert (np.array([box.x1, box.y1]) <= figure.get_size_inches() * figure.dpi).all(), text


@pytest.mark.parametrize("label", ["nats", "weight, on the scale of its square root", "change of the loss (nats per token)"])
def test_a_long_label_of_the_colour_bar_is_in_several_lines(label):
    for rows in (1, 3, 9):
        figure = heat_map(np.ones((rows, 2)), ["a"] * rows, ["x", "y"], title="a title that is longer than two columns", bar_label=label)
        assert " ".join(figure.axes[1].get_ylabel().split("\n")) == label
        assert_inside(figure)


def test_values_are_written_where_there_is_space():
    wide = heat_map(np.ones((2, 15)), ["a", "b"], ["x"] * 15, title="", bar_label="")
    assert texts(wide.axes[0], "value") == []
    told = heat_map(np.full((2, 15), 0.0123), ["a", "b"], ["x"] * 15, title="", bar_label="", write_values=True)
    assert texts(told.axes[0], "value") == ["0.012"] * 30
    assert texts(heat_map(np.array([[3e-4, 123456.0]]), ["a"], ["x", "y"], title="", bar_label="").axes[0], "value") == ["3e−4", "1e5"]


def test_many_rows_and_columns():
    text = "to be " * 50
    figure = heat_map(np.ones((300, 300)), list(text), list(text), title="big", bar_label="nats")
    assert max(figure.get_size_inches()) < 14
    for which in ("row label", "column label"):
        assert "".join(texts(figure.axes[0], which)).replace("·", " ") == text
        assert len(texts(figure.axes[0], which)) < 150


def test_bars():
    figure = bars([0.25, -0.5, 0.0], ["h.0.attn", "h.1.attn", "h.2.attn"], title="ablation", axis_label="nats per token")
    (axes,) = figure.axes
    assert [patch.get_width() for patch in axes.patches] == [0.25, -0.5, 0.0]
    colors = [patch.get_facecolor() for patch in axes.patches]
    assert colors[0] != colors[1]
    assert texts(axes, "row label") == ["h.0.attn", "h.1.attn", "h.2.attn"]
    assert texts(axes, "value") == ["0.25", "−0.50", "0"]
    assert (axes.get_xlabel(), axes.get_title("left")) == ("nats per token", "ablation")
    assert axes.get_ylim() == (2.5, -0.5), "the first on top"


@pytest.mark.parametrize("color", ["#000000", "#3f8fcb", "#777777", "#cfe6fb", "#ffffff", "#c2410c"])
def test_ink_can_be_read_on_every_colour(color):
    high, low = sorted((luminance(color), luminance(ink_on(color))), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_light_and_dark():
    """The same picture in the colours of both pages: the background of each is that of pages/style.css."""
    drawn = []

    def draw():
        drawn.append(heat_map(np.eye(2), ["a", "b"], ["c", "d"], title="t", bar_label="l"))
        return {"t": drawn[-1]}

    (picture,) = light_and_dark(draw).values()
    assert picture.light.startswith(PNG)
    assert picture.dark.startswith(PNG)
    assert picture.light != picture.dark
    light, dark = drawn
    assert light.get_facecolor() == to_rgba("#fff")
    assert dark.get_facecolor() == to_rgba("#14171c")
    for figure, paper in ((light, "#fff"), (dark, "#14171c")):
        for text in figure.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_text() and artist.get_gid() != "value"):
            assert abs(luminance(text.get_color()) - luminance(paper)) > 0.5, text
    shown = LightAndDark(b"l", b"d", 30, 20).html("a < b")
    assert '<source media="screen and (prefers-color-scheme: dark)" srcset="data:image/png;base64,ZA==">' in shown
    assert '<img alt="a &lt; b" width="30" height="20" src="data:image/png;base64,bA==">' in shown


def test_a_notebook_shows_the_picture():
    """IPython takes a PNG file with its width."""
    figure = heat_map(np.eye(2), ["a", "b"], ["c", "d"], title="", bar_label="")
    image, size = figure._repr_png_()
    assert image.startswith(PNG)
    assert size == {"width": round(96 * figure.get_figwidth())}


@pytest.mark.parametrize("draw", [
    lambda: heat_map(np.zeros((2, 3)), ["a"], ["x", "y", "z"], title="", bar_label=""),
    lambda: heat_map(np.zeros(3), ["a"], ["x", "y", "z"], title="", bar_label=""),
    lambda: bars([1.0, 2.0], ["a"], title="", axis_label=""),
])  # fmt: skip
def test_labels_that_do_not_fit_the_values(draw):
    with pytest.raises(ShapeError, match=r"shape \((2, 3|3,|2,)\): expected \((1, 3|1,)\), one per label"):
        draw()
