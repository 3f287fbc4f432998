"""From arrays to pictures: values between 0 and 1, in one channel or three."""

import numpy as np

# A picture is stretched to full contrast only if it spans at least this share of the largest
# range. A flatter one stays flat in proportion: at full contrast it would show its noise.
GREY_SHARE = 0.1
COLOUR_SHARE = 0.3
# The range of colour pictures is at least this many of their deviations. After contrast
# normalisation, plain colours lie about one deviation from zero, and would fill their own range.
COLOUR_DEVIATIONS = 7
# Height of a drawn signal, as a share of its length.
SIGNAL_HEIGHT = 0.5
# Brightness of pixels that are missing.
MISSING_GREY = 0.5


def are_signals(pictures):
    """Whether pictures (..., height, width, channels) are lines rather than areas."""
    return pictures.shape[-3] == 1 and pictures.shape[-2] > 1


def tile_shape(pictures):
    """Height and width that each picture is drawn in."""
    height, width = pictures.shape[-3:-1]
    return (SIGNAL_HEIGHT * width, width) if are_signals(pictures) else (height, width)


def limits(images):
    """Values of black and of white: 0 and 255 for uint8, else the least and the greatest."""
    if images.dtype == np.uint8:
        return 0.0, 255.0
    known = images[images == images]
    # As floats: the difference of two small integers may overflow, and bools have none.
    return (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)


def scaled(pictures, limits):
    """Pictures between 0 and 1, on one scale for all. Missing pixels are grey."""
    pictures = _visible(np.asarray(pictures, dtype=float))
    drawn = np.clip(_between(pictures, *limits), 0, 1)
    # A line has a gap instead.
    return drawn if are_signals(pictures) else np.where(np.isnan(drawn), MISSING_GREY, drawn)


def stretched(pictures, limits=None):
    """Pictures between 0 and 1, each of them stretched to its own range of brightness.

    Colour is the difference of a channel from the mean of the channels. It has one scale for all
    pictures, given by `limits` or by the range of all: if each picture had its own, pale pictures
    would look as vivid as the most colourful. Missing pixels are grey.
    """
    pictures = _visible(np.asarray(pictures, dtype=float))
    missing = np.isnan(pictures)
    if missing.any():
        known = np.where(missing, 0, pictures).sum(axis=(1, 2, 3), keepdims=True)
        means = known / np.maximum((~missing).sum(axis=(1, 2, 3), keepdims=True), 1)
        filled = stretched(np.where(missing, means, pictures), limits)
        return np.where(missing, MISSING_GREY, filled)
    if pictures.shape[-1] != 3 or are_signals(pictures):
        low, high = pictures.min(), pictures.max()
        least = GREY_SHARE * np.ptp(pictures, axis=(1, 2, 3)).max()
        return np.clip(_stretched(pictures, least, low, high), 0, 1)  # rounding leads out
    low, high = limits or _colour_range(pictures)
    brightness = pictures.mean(axis=-1, keepdims=True)
    colour = _between(pictures - brightness, 0, high - low)
    return np.clip(_stretched(brightness, COLOUR_SHARE * (high - low), low, high) + colour, 0, 1)


def _stretched(pictures, least, low, high):
    """Pictures stretched one by one, as if each had a range of at least `least`."""
    bottom = pictures.min(axis=(1, 2, 3), keepdims=True)
    top = pictures.max(axis=(1, 2, 3), keepdims=True)
    spread, middle = top - bottom, (bottom + top) / 2
    scale = np.maximum(spread, least)
    scale[scale == 0] = 1
    # A picture that does not fill its own scale lies about where it would on a shared one.
    room = spread / scale / 2
    level = np.clip(_between(middle, low, high), room, 1 - room)
    return level + (pictures - middle) / scale


def _colour_range(pictures):
    """Range of colour pictures, without extremes; wider if they hold little else than colour."""
    # The range contains zero, which is black in pixels, and no contrast in normalised patches.
    low, high = np.percentile(pictures, [1, 99])
    low, high = min(0, low), max(0, high)
    deviation = np.sqrt(pictures.var(axis=(1, 2, 3)).mean())
    missing = max(0, COLOUR_DEVIATIONS * deviation - (high - low))
    return low - missing / 2, high + missing / 2


def _between(values, low, high):
    return (values - low) / (high - low if high > low else 1)


def _visible(pictures):
    """Channels to draw: all three of colours, all of a signal, otherwise their mean."""
    if pictures.shape[-1] == 3 or are_signals(pictures):
        return pictures
    return pictures.mean(axis=-1, keepdims=True)
