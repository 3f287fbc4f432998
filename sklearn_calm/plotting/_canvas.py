"""Pictures side by side on one Axes. Nothing else here, or in the displays, imports matplotlib.

A box is (left, top, width, height), in the units of the Axes, of which the vertical one points
down. Pictures hold values between 0 and 1, of one channel or three.
"""

import numpy as np

from sklearn_calm.plotting._pictures import are_signals, tile_shape

TINT = "#ff00c8"  # rare in photographs, and stands out from dark and light greys
MARK = "white"
PALE = "0.85"
GAP = "0.6"  # visible between dark pictures and between light ones
# Inches.
LARGEST_WIDTH, LARGEST_HEIGHT, SMALLEST_SIDE = 12, 30, 2.5
# Points.
LARGEST_TEXT, SMALLEST_TEXT = 8, 2.5


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


def canvas(ax, height, width, pictures):
    """Axes without ticks for pictures that take up this height and width together.

    A new figure grows with the number of pictures and with their pixels, up to a limit.
    """
    inches = _tile_inches(pictures) / max(tile_shape(pictures))
    inches = max(inches, SMALLEST_SIDE / max(height, width))
    inches = min(inches, LARGEST_WIDTH / width, LARGEST_HEIGHT / height)
    ax = figure_axes(ax, (inches * width, inches * height))
    ax.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[], aspect="equal")
    ax.set_autoscale_on(False)
    ax.spines[:].set_visible(False)
    return ax


def draw(ax, picture, box, cmap):
    """Draw a picture; or a signal, as a line for each channel in a pale frame."""
    if are_signals(picture):
        _draw_signal(ax, picture, box)
    else:
        _show(ax, picture.squeeze(axis=2) if picture.shape[2] == 1 else picture, box, cmap=cmap)


def draw_within(ax, picture, box, cmap):
    """Draw a picture in the middle of a box, as large as its shape allows."""
    left, top, width, height = box
    tall, wide = tile_shape(picture)
    zoom = min(height / tall, width / wide)
    left, top = left + (width - zoom * wide) / 2, top + (height - zoom * tall) / 2
    draw(ax, picture, (left, top, zoom * wide, zoom * tall), cmap)


def draw_grid(ax, tiles, n_columns, cmap, left=0):
    """Draw pictures side by side, row by row, with thin gaps."""
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
    """Draw thin lines between the tiles of a grid: (rows, columns), (height, width)."""
    (left, top), (n_rows, n_columns), (height, width) = corner, shape, tile
    line_width = float(np.clip(0.04 * min(tile) * _points(ax), 0.4, 2))
    style = {"colors": GAP, "linewidths": line_width, "zorder": 3}
    ax.hlines(top + height * np.arange(1, n_rows), left, left + n_columns * width, **style)
    ax.vlines(left + width * np.arange(1, n_columns), top, top + n_rows * height, **style)


def draw_numbers(ax, numbers, n_columns, tile):
    """Write a number into the corner of each tile of a grid, unless tiles are too small for it."""
    height, width = tile
    size = min(0.18 * min(tile) * _points(ax), LARGEST_TEXT)
    if numbers is None or size < SMALLEST_TEXT:
        return
    for i, number in enumerate(numbers):
        row, column = divmod(i, n_columns)
        x, y = (column + 0.06) * width, (row + 0.06) * height
        outline = [_outline("white", 0.4 * size)]
        style = {"color": "white", "path_effects": outline, "ha": "left", "va": "top", "zorder": 5}
        ax.text(x, y, str(number), fontsize=size, **style)


def draw_tint(ax, strengths, box, color):
    """Draw a colour over what is there, as opaque as the strengths, between 0 and 1, say."""
    from matplotlib.colors import to_rgb

    tint = np.broadcast_to(to_rgb(color), (*strengths.shape, 3))
    _show(ax, np.concatenate([tint, strengths[..., None]], axis=2), box, zorder=1)


def draw_frame(ax, box, color, within):
    """Draw the outline of a box, as far as it lies within another box.

    Its edge is black or white, whichever differs more, so that it is visible on any picture.
    """
    frame = _rectangle(box, fill=False, edgecolor=color, zorder=4)
    frame.set_path_effects([_outline(color, 3)])
    ax.add_patch(frame)
    frame.set_clip_path(_rectangle(within, transform=ax.transData))


def label(axis, places, numbers, tile_side):
    """Write numbers beside the rows, or above the columns, in the style's colour of labels."""
    if numbers is None:
        return
    if axis.axis_name == "x":
        axis.tick_top()
    size = float(np.clip(0.4 * tile_side * _points(axis.axes), SMALLEST_TEXT, LARGEST_TEXT))
    axis.set_ticks(places, labels=[str(number) for number in numbers])
    axis.set_tick_params(length=0, labelsize=size, pad=2)


def moved(box, left, top):
    """A box, moved by an offset."""
    return box[0] + left, box[1] + top, *box[2:]


def _tile_inches(pictures):
    """Length of the longer side of a picture in a figure that has room for it."""
    least = 1.25 if are_signals(pictures) else 0.6
    return float(np.clip(0.5 + max(tile_shape(pictures)) / 64, least, 2))


def _draw_signal(ax, signal, box):
    left, top, width, height = box
    values = signal.reshape(-1, signal.shape[-1])
    x = left + (np.arange(len(values)) + 0.5) * width / len(values)
    ink = ax.xaxis.label.get_color()
    for i, channel in enumerate(values.T):
        color = ink if values.shape[1] == 1 else f"C{i}"
        ax.plot(x, top + height * (0.9 - 0.8 * channel), color=color, linewidth=1, zorder=2)
    frame = _rectangle(box, fill=False, edgecolor=PALE, zorder=4)
    frame.set_clip_on(False)
    ax.add_patch(frame)


def _show(ax, pixels, box, **style):
    left, top, width, height = box
    extent = left, left + width, top + height, top
    ax.imshow(pixels, extent=extent, vmin=0, vmax=1, interpolation="nearest", **style)


def _mosaic(tiles, n_columns):
    _, height, width, channels = tiles.shape
    rows = tiles.reshape(-1, n_columns, height, width, channels).swapaxes(1, 2)
    return rows.reshape(-1, n_columns * width, channels)


def _rectangle(box, **style):
    from matplotlib.patches import Rectangle

    left, top, width, height = box
    return Rectangle((left, top), width, height, **style)


def _outline(color, line_width):
    """A path effect that draws an edge: black around light colours, white around dark ones."""
    from matplotlib.colors import to_rgb
    from matplotlib.patheffects import withStroke

    edge = "black" if np.dot(to_rgb(color), (0.3, 0.6, 0.1)) > 0.5 else "white"
    return withStroke(linewidth=line_width, foreground=edge)


def _points(ax):
    """Number of points in a unit of the Axes."""
    across = ax.bbox.width / abs(np.diff(ax.get_xlim())[0])
    down = ax.bbox.height / abs(np.diff(ax.get_ylim())[0])
    return min(across, down) * 72 / ax.figure.dpi
