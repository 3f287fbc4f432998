"""From arrays to pictures: values between 0 and 1, in one channel or three."""

import numpy as np

# Pictures that vary by less than this share of what the liveliest does are drawn about as flat as
# they are: at full contrast they would show their noise.
FLAT_SHARE = 0.1
# Height of a signal as it is drawn, as a share of its length.
SIGNAL_HEIGHT = 0.5


def are_signals(pictures):
    """Whether pictures (..., height, width, channels) are lines rather than areas."""
    return pictures.shape[-3] == 1 and pictures.shape[-2] > 1


def tile_shape(pictures):
    """Height and width that each picture is drawn in."""
    height, width = pictures.shape[-3:-1]
    return (SIGNAL_HEIGHT * width, width) if are_signals(pictures) else (height, width)


def limits(images):
    """Values of black and white that suit all images: those of bytes, or least and greatest."""
    images = np.asarray(images)
    return (0, 255) if images.dtype == np.uint8 else (images.min(), images.max())


def scaled(pictures, limits):
    """Pictures between 0 and 1, on a scale shared by all."""
    return np.clip(_between(_visible(np.asarray(pictures, dtype=float)), *limits), 0, 1)


def stretched(pictures):
    """Pictures between 0 and 1, on a scale of its own for each."""
    pictures = _visible(np.asarray(pictures, dtype=float))
    low = pictures.min(axis=(1, 2, 3), keepdims=True)
    high = pictures.max(axis=(1, 2, 3), keepdims=True)
    spread, middle = high - low, (low + high) / 2
    scale = np.maximum(spread, FLAT_SHARE * spread.max())
    scale[scale == 0] = 1
    # What does not fill its own scale lies about where it would on the shared one.
    room = spread / scale / 2
    level = np.clip(_between(middle, low.min(), high.max()), room, 1 - room)
    return np.clip(level + (pictures - middle) / scale, 0, 1)  # rounding leads out


def _between(values, low, high):
    return (values - low) / (high - low if high > low else 1)


def _visible(pictures):
    """Channels that can be shown: three are colours, else the mean; each that of a signal."""
    if pictures.shape[-1] == 3 or are_signals(pictures):
        return pictures
    return pictures.mean(axis=-1, keepdims=True)
