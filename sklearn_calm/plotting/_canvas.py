"""Pictures side by side on one Axes. Nothing else here, or in the displays, imports matplotlib.

A box is (left, top, width, height), in the units of the Axes, of which the vertical one points
down. Pictures hold values between 0 and 1, of one channel or three.
"""

import numpy as np

from sklearn_calm.plotting._pictures import are_signals, tile_shape

MARK = "#ff7a00"  # stands out from greys, dark and light, and from most photographs
PALE, SOFT = "0.85", "0.4"
GAP = "0.6"  # seen between dark pictures and between light ones
LONGEST_SIDE = 7  # inches


def figure_axes(ax, figsize):
    """The Axes given, or those of a new figure."""
    if ax is not None:
        return ax
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            "Displays need matplotlib, which is not installed. Install it with: "
            'pip install "sklearn-calm[plot]"'
        ) from error
    return pyplot.subplots(figsize=figsize, layout="constrained")[1]


def canvas(ax, height, width, side=LONGEST_SIDE):
    """Axes without ticks for pictures that take up this height and width together."""
    inches = side / max(height, width)
    ax = figure_axes(ax, (inches * width, inches * height))
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    ax.set_autoscale_on(False)
    ax.spines[:].set_visible(False)
    return ax


def draw(ax, picture, box, cmap):
    """A picture; a signal as a line for each channel, in a pale frame."""
    if are_signals(picture):
        _draw_signal(ax, picture, box)
    else:
        _show(ax, picture.squeeze(axis=2) if picture.shape[2] == 1 else picture, box, cmap=cmap)


def draw_within(ax, picture, box, cmap):
    """A picture as large as its shape lets it be in a box, in the middle."""
    left, top, width, height = box
    tall, wide = tile_shape(picture)
    zoom = min(height / tall, width / wide)
    left, top = left + (width - zoom * wide) / 2, top + (height - zoom * tall) / 2
    draw(ax, picture, (left, top, zoom * wide, zoom * tall), cmap)


def draw_grid(ax, tiles, n_columns, cmap, left=0):
    """Pictures side by side, row by row, with thin gaps."""
    height, width = tile_shape(tiles)
    if are_signals(tiles):
        for i, tile in enumerate(tiles):
            row, column = divmod(i, n_columns)
            draw(ax, tile, (left + column * width, row * height, width, height), cmap)
        return
    # Full rows are one image, which takes a fraction of the time of many; the rest is another.
    n_full, n_rest = divmod(len(tiles), n_columns)
    for part, row in ((tiles[: n_full * n_columns], 0), (tiles[n_full * n_columns :], n_full)):
        if len(part):
            picture = _mosaic(part, min(n_columns, len(part)))
            box = left, row * height, picture.shape[1], picture.shape[0]
            draw(ax, picture, box, cmap)
    draw_gaps(ax, (left, 0), (n_full, n_columns), (height, width))
    if n_rest:
        above = max(n_full - 1, 0)
        draw_gaps(ax, (left, above * height), (n_full + 1 - above, n_rest), (height, width))


def draw_gaps(ax, corner, shape, tile):
    """Lines as thin as gaps between the tiles of a grid: (rows, columns), (height, width)."""
    (left, top), (n_rows, n_columns), (height, width) = corner, shape, tile
    style = {"colors": GAP, "linewidths": _gap(ax, tile), "zorder": 3}
    ax.hlines(top + height * np.arange(1, n_rows), left, left + n_columns * width, **style)
    ax.vlines(left + width * np.arange(1, n_columns), top, top + n_rows * height, **style)


def draw_tint(ax, strengths, box, color):
    """A colour over what is there, the more opaque the stronger, between 0 and 1."""
    from matplotlib.colors import to_rgb

    tint = np.broadcast_to(to_rgb(color), (*strengths.shape, 3))
    _show(ax, np.concatenate([tint, strengths[..., None]], axis=2), box, zorder=1)


def draw_frame(ax, box, color):
    """The outline of a box."""
    from matplotlib.patches import Rectangle

    left, top, width, height = box
    frame = Rectangle((left, top), width, height, fill=False, edgecolor=color, zorder=4)
    frame.set_clip_on(False)
    ax.add_patch(frame)


def label(axis, places, numbers):
    """Numbers beside the rows, or above the columns."""
    if numbers is None:
        return
    if axis.axis_name == "x":
        axis.tick_top()
    axis.set_ticks(places, labels=[str(number) for number in numbers])
    axis.set_tick_params(length=0, labelsize=8, labelcolor=SOFT, pad=2)


def moved(box, left, top):
    """A box, seen from elsewhere."""
    return box[0] + left, box[1] + top, *box[2:]


def _draw_signal(ax, signal, box):
    left, top, width, height = box
    values = signal.reshape(-1, signal.shape[-1])
    x = left + (np.arange(len(values)) + 0.5) * width / len(values)
    ink = ax.xaxis.label.get_color()
    for i, channel in enumerate(values.T):
        color = ink if values.shape[1] == 1 else f"C{i}"
        ax.plot(x, top + height * (0.9 - 0.8 * channel), color=color, linewidth=1, zorder=2)
    draw_frame(ax, box, PALE)


def _show(ax, pixels, box, **style):
    left, top, width, height = box
    extent = left, left + width, top + height, top
    ax.imshow(pixels, extent=extent, vmin=0, vmax=1, interpolation="nearest", **style)


def _mosaic(tiles, n_columns):
    _, height, width, channels = tiles.shape
    rows = tiles.reshape(-1, n_columns, height, width, channels).swapaxes(1, 2)
    return rows.reshape(-1, n_columns * width, channels)


def _gap(ax, tile):
    """Points: a share of the tile, which may be large or small."""
    points = ax.bbox.width / abs(np.diff(ax.get_xlim())[0]) * 72 / ax.figure.dpi
    return float(np.clip(0.04 * min(tile) * points, 0.4, 2))
