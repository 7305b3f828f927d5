"""An array in short: its statistics, a heat map of at most 32 x 64 cells, and a line of HTML for notebooks. NumPy arrays only."""

import base64
import html
import struct
import zlib

import numpy as np

_WARM, _COOL = (216, 92, 32), (56, 120, 216)  # positive and negative; seen on white and on black


def statistics(array: np.ndarray) -> dict[str, float]:
    """Returns the norm, mean, min and max, computed in float64; of an empty array the norm alone."""
    values = array.astype(np.float64)
    found = {"norm": float(np.linalg.norm(values.ravel()))}
    if values.size:
        with np.errstate(invalid="ignore"):
            found |= {"mean": float(values.mean()), "min": float(values.min()), "max": float(values.max())}
    return found


def cells(array: np.ndarray, rows: int = 32, columns: int = 64) -> np.ndarray:
    """Returns the array as a matrix of at most `rows` x `columns` float64 cells.

    The last axis runs along a row; all axes before it, those of length 1 left out, are laid out one below the other. Each
    cell stands for `block(array)` elements. It is their mean in an array without negative elements; else the element furthest from 0,
    since the mean would hide gradients, whose signs alternate. NaN if one of them is.
    """
    matrix = as_matrix(array).astype(np.float64)
    high, wide = block(array, rows, columns)
    shape = -(-matrix.shape[0] // high), -(-matrix.shape[1] // wide)
    padded = np.zeros((shape[0] * high, shape[1] * wide))
    padded[: matrix.shape[0], : matrix.shape[1]] = matrix
    parts = padded.reshape(shape[0], high, shape[1], wide).swapaxes(1, 2).reshape(*shape, high * wide)
    if not (matrix < 0).any():
        counted = np.pad(np.ones(matrix.shape), [(0, p - n) for p, n in zip(padded.shape, matrix.shape, strict=True)])
        counts = counted.reshape(shape[0], high, shape[1], wide).sum(axis=(1, 3))
        return parts.sum(axis=2) / counts
    return np.take_along_axis(parts, np.abs(parts).argmax(axis=2)[..., None], axis=2)[..., 0]


def block(array: np.ndarray, rows: int = 32, columns: int = 64) -> tuple[int, int]:
    """Returns how many rows and columns of the matrix one cell stands for."""
    high, wide = as_matrix(array).shape
    return max(1, -(-high // rows)), max(1, -(-wide // columns))


def as_matrix(array: np.ndarray) -> np.ndarray:
    """Returns the array with its last axis as columns, and all others that are longer than 1 as rows."""
    long = tuple(n for n in array.shape if n != 1)
    return array.reshape(-1 if array.size else 0, long[-1] if long and array.size else 1)


def short_html(array: np.ndarray, title: str) -> str:
    """Returns a title, the elements of an array of up to 24, or the statistics and a heat map of a larger one."""
    if array.size <= 24:
        shown = html.escape(np.array2string(array, precision=4, separator=", ", max_line_width=100))
        return f"<div><b>{html.escape(title)}</b><pre>{shown}</pre></div>"
    figures = ", ".join(f"{name} {value:.4g}" for name, value in statistics(array).items())
    return f"<div><b>{html.escape(title)}</b><br>{figures}<br>{heat_map(array)}</div>"


def heat_map(array: np.ndarray) -> str:
    """Returns an <img> of the cells: orange above 0 and blue below; the opacity is their `strengths`. What is not finite is black."""
    values = cells(array)
    finite, (level, largest) = np.isfinite(values), strengths(values)
    pixels = np.zeros((*values.shape, 4), np.uint8)
    pixels[..., :3] = np.where((values < 0)[..., None], _COOL, _WARM)
    pixels[..., 3] = np.where(finite, 255 * level, 255).round()
    pixels[~finite, :3] = 0
    data = base64.b64encode(_png(pixels)).decode()
    high, wide = values.shape
    scale = max(2, min(12, 320 // max(wide, 1)))
    style = f"width:{wide * scale}px;height:{high * scale}px;image-rendering:pixelated;border:1px solid #8888"
    return f'<img alt="heat map of {high} x {wide} cells, up to {largest:.3g}" style="{style}" src="data:image/png;base64,{data}">'


def strengths(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns how strong the colour of each cell is, from 0 to 1, and the largest absolute value, which has 1.

    It is the square root of the absolute value, so that small values show; the value itself if none is negative, as gates.
    What is not finite has 0.
    """
    sizes = np.abs(np.where(np.isfinite(values), values, 0))
    largest = float(sizes.max(initial=0)) or 1.0
    return (np.sqrt(sizes / largest) if (values < 0).any() else sizes / largest), largest


def _png(pixels: np.ndarray) -> bytes:
    """Returns a PNG file (W3C, Portable Network Graphics) of pixels (height, width, 4), 8 bits each."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = pixels.shape[:2]
    lines = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1)  # each line begins with its filter: none
    head = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines.tobytes(), 9)) + chunk(b"IEND", b"")
