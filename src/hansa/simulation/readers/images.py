"""Images as arrays, for every reader that meets some.

| the image is | the array is |
|---|---|
| grey, of 8 or 16 bits | uint8 or uint16 `[height, width]` |
| black and white, of 1 bit | bool `[height, width]` |
| grey, of 32-bit integers or floats | int32 or float32 `[height, width]` |
| coloured, with a palette, or CMYK | uint8 `[height, width, 3]`: red, green, blue |
| any of these, with transparency | uint8 `[height, width, 4]`: red, green, blue, alpha |

It is turned as its EXIF orientation says. What Pillow would not read whole, 16 bits a colour or several frames, is
refused; and so is an image of more pixels than `PIL.Image.MAX_IMAGE_PIXELS`, 89 million, before any is decoded, since
a file of a few kilobytes can have billions. Files of other formats than those of `_FORMATS`, whatever they are called,
are not opened: Pillow runs a program to read some.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hansa.simulation._errors import DatasetError

Pixels = npt.NDArray[Any]

_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
_GREY = ("1", "L", "I", "F", "I;16")


def opened(source: Path | bytes, what: str, mode: str | None = None) -> Any:
    """The image in a file, or in the bytes of one, as Pillow's, in one of the modes `1`, `L`, `I;16`, `I`, `F`, `RGB`
    and `RGBA`, or in one that is asked for.

    Raises:
        DatasetError: it is damaged, or no image; `what` names it.
        ValueError: it has more than Pillow can read.
    """
    from PIL import Image, ImageOps

    if isinstance(source, Path) and not source.is_file():
        raise DatasetError(f"{what} is no file")
    Image.init()
    known = [each for each in _FORMATS if each in Image.OPEN]
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=known) as image:
            unread = _too_large(image) or _unread(image) or _clipped(image, mode)
            if not unread:
                turned = ImageOps.exif_transpose(image)
                made = turned.convert(mode) if mode and mode[0] != "P" else _plain(turned)
    except Exception as error:  # Pillow raises nearly anything for broken files
        raise DatasetError(f"{what} is damaged, or no image: {error}") from error
    if unread:
        raise ValueError(f"{what} {unread}")
    return made


def pixels(image: Any) -> Pixels:
    """The pixels of an image of Pillow's."""
    array = np.asarray(image)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def fitted(image: Any, what: str, greyscale: bool, size: tuple[int, int] | None) -> Pixels:
    """The pixels of an image that is made grey, or else coloured, and of a size.

    Args:
        image: what `opened` gave.
        what: what to call it in messages.
        greyscale: whether it becomes grey, `[height, width]`, else coloured, `[height, width, 3]`, with 4 channels if
            it has transparency; of as many bits as it has, but for those of 1 bit, which become uint8, 0 and 255.
        size: its height and width afterwards, perhaps.

    Raises:
        ValueError: it is to be grey and has transparent parts.
    """
    from PIL import Image

    if image.mode == "1":
        image = image.convert("L")
    if greyscale and image.mode == "RGBA":
        if image.getextrema()[3][0] < 255:
            raise ValueError(
                f"{what} has transparent parts, whose grey is unknown; leave out greyscale, and make it grey by a "
                "function in convert, which gets images with a fourth channel, alpha"
            )
        image = image.convert("RGB")
    if greyscale and image.mode == "RGB":
        image = image.convert("L")
    dtype = pixels(image).dtype
    if size is not None:
        height, width = size
        if image.mode in ("I", "I;16"):
            image = image.convert("I").convert("F")  # which holds 24 bits
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    array = pixels(image)
    if array.dtype != dtype:
        array = np.rint(array).astype(dtype)
    return array if greyscale or array.ndim == 3 else np.repeat(array[..., None], 3, axis=-1)


def scaled(array: Pixels) -> Pixels:
    """Pixels of integers of 8 or 16 bits, from 0 to 1 as float32.

    Raises:
        TypeError: they are others, of which it is not known what is white.
    """
    if array.dtype not in (np.uint8, np.uint16):
        raise TypeError(
            f"scale is for images of 8 or 16 bits; found {array.dtype}: scale them by a function in convert"
        )
    return array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)


def _plain(image: Any) -> Any:
    """The image in a mode whose arrays mean what they say."""
    if image.mode.startswith("I;16"):
        return image.copy()
    if image.has_transparency_data:
        made = image.convert("RGBA")
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or made.getextrema()[3][0] < 255:
            return made
    if image.mode in _GREY:
        return image.copy()
    return image.convert("RGB")


def _too_large(image: Any) -> str:
    """What to say of an image that has too many pixels; empty if it has not."""
    from PIL import Image

    most = Image.MAX_IMAGE_PIXELS
    if most is None or image.width * image.height <= most:
        return ""
    return (
        f"has {image.height:,} by {image.width:,} pixels, which is more than {most:,}; if it is meant to, set "
        "PIL.Image.MAX_IMAGE_PIXELS to a number that is enough"
    )


def _clipped(image: Any, mode: str | None) -> str:
    """What to say of an image whose numbers would be cut to 8 bits in the mode that is asked for; empty if not."""
    if mode is None or mode[0] in "IFP" or image.mode[0] not in "IF":
        return ""
    return (
        f"is of mode {image.mode}, whose numbers are larger than those of {mode}, which is asked for; leave the mode "
        "out, and scale them by a function in convert"
    )


def _unread(image: Any) -> str:
    """What of an image that was just opened Pillow would leave out; empty if nothing."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # in which cameras add previews
        return f"has {frames} frames; save the one that is meant, or each in a file of its own"
    # Such as "RGB;16B" of PNG, or the same in a tuple.
    raw = str([tile[3] for tile in getattr(image, "tile", ())])
    if ";16" in raw and not image.mode.startswith("I"):
        return (
            "has 16 bits a channel, of which Pillow reads 8; read it with another library, in a function for "
            "ClientData.from_function, or save it with 8 bits"
        )
    if raw.startswith("[('RGB', ") and image.format == "PPM" and image.tile[0][3][1] > 255:
        return f"has colours up to {image.tile[0][3][1]}, of which Pillow makes 255; save it with 8 bits a channel"
    if image.mode.startswith("I") and "transparency" in image.info:
        return "is grey, of 16 bits, with a grey that is transparent, which would be lost; save it without transparency"
    return ""
