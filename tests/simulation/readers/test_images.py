"""Images of every kind, from folders and from Hugging Face's datasets: what Pillow makes of their colours is right."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.simulation import DatasetError, from_folder, from_huggingface

image = pytest.importorskip("PIL.Image")
datasets = pytest.importorskip("datasets")

RANDOM = np.random.default_rng(0)
RGB = RANDOM.integers(0, 256, (4, 5, 3), np.uint8)
GREY = RANDOM.integers(0, 256, (4, 5), np.uint8)
DEEP = RANDOM.integers(0, 2**16, (4, 5), np.uint16)
ALPHA = np.concatenate([RGB, GREY[..., None]], -1)


def png(picture: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", **options)
    return stream.getvalue()


def gif(*pictures: Any) -> bytes:
    stream = io.BytesIO()
    pictures[0].save(stream, "GIF", save_all=len(pictures) > 1, append_images=pictures[1:])
    return stream.getvalue()


def turned(orientation: int) -> bytes:
    exif = image.Exif()
    exif[0x0112] = orientation
    return png(image.fromarray(RGB), exif=exif)


def palette(colours: np.ndarray) -> Any:
    return image.fromarray(colours).convert("P", palette=image.Palette.ADAPTIVE)


FOUR = np.array([[[255, 0, 0], [0, 0, 255]], [[0, 255, 0], [9, 8, 7]]], np.uint8)
SEE_THROUGH = np.array([[[1, 2, 3, 255], [4, 5, 6, 0]]], np.uint8)
INDEXED = image.fromarray(np.array([[0, 1]], np.uint8), "P")
INDEXED.putpalette([1, 2, 3, 4, 5, 6])

CASES: dict[str, tuple[bytes, np.ndarray]] = {
    "coloured": (png(image.fromarray(RGB)), RGB),
    "grey": (png(image.fromarray(GREY)), GREY),
    "a palette": (png(palette(FOUR)), FOUR),
    "a GIF": (gif(palette(FOUR)), FOUR),
    "a palette with a transparent colour": (png(INDEXED, transparency=1), SEE_THROUGH),
    "1 bit": (png(image.fromarray(GREY > 99)), GREY > 99),
    "16 bits": (png(image.fromarray(DEEP)), DEEP),
    "alpha": (png(image.fromarray(ALPHA)), ALPHA),
    "grey with alpha": (png(image.fromarray(ALPHA[..., [0, 3]], "LA")), ALPHA[..., [0, 0, 0, 3]]),
    "upside down": (turned(3), RGB[::-1, ::-1]),
    "a quarter turn": (turned(6), np.rot90(RGB, -1)),
    "mirrored": (turned(2), RGB[:, ::-1]),
}


def of_dataset(images: list[Any], **named: Any) -> Any:
    features = datasets.Features({"who": datasets.Value("string"), "image": datasets.Image(**named)})
    stored = [{"bytes": each, "path": None} if isinstance(each, bytes) else each for each in images]
    return datasets.Dataset.from_dict({"who": ["ann"] * len(images), "image": stored}, features)


def folder(root: Path, *images: bytes) -> Path:
    (root / "ann").mkdir()
    for number, each in enumerate(images):
        (root / "ann" / f"{number}.{'gif' if each.startswith(b'GIF') else 'png'}").write_bytes(each)
    return root


@pytest.mark.parametrize("case", CASES)
def test_an_image_is_what_it_shows(case: str, tmp_path: Path):
    stored, expected = CASES[case]
    found = from_huggingface(of_dataset([stored]), "who", {"x": "image"}).client("ann")["x"]
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found[0], expected)
    grey = expected.astype(np.uint8) * 255 if expected.dtype == bool else expected
    coloured = grey if grey.ndim == 3 else np.stack([grey] * 3, -1)
    found = from_folder(folder(tmp_path, stored), folders="clients").client("ann")["x"]
    assert found.dtype == coloured.dtype
    np.testing.assert_array_equal(found[0], coloured)


def test_cmyk_is_made_red_green_and_blue(tmp_path: Path):
    (tmp_path / "ann").mkdir()
    image.fromarray(np.full((8, 8, 3), (200, 40, 90), np.uint8)).convert("CMYK").save(
        tmp_path / "ann" / "a.jpg", quality=100
    )
    found = from_folder(tmp_path, folders="clients").client("ann")["x"]
    assert (abs(found.astype(int) - (200, 40, 90)) <= 3).all()


def test_sixteen_bits_stay_when_images_are_grey_or_scaled(tmp_path: Path):
    root = folder(tmp_path, png(image.fromarray(np.full((4, 4), 40_000, np.uint16))))
    found = from_folder(root, folders="clients", image_size=(2, 3), greyscale=True).client("ann")["x"]
    assert (found.dtype, found.shape, np.unique(found).tolist()) == (np.uint16, (1, 2, 3), [40_000])
    assert from_folder(root, folders="clients", image_size=(2, 3)).client("ann")["x"].shape == (1, 2, 3, 3)


def test_images_of_several_modes_and_sizes_are_for_a_function(tmp_path: Path):
    images = [png(image.fromarray(each)) for each in (RGB, RGB[:3], GREY, DEEP)]

    def corner(values: Any) -> np.ndarray:
        return np.stack([np.asarray(each)[:2, :2].reshape(4, -1)[:, 0] for each in values]).astype(np.float32)

    expected = np.stack([np.asarray(each)[:2, :2].reshape(4, -1)[:, 0] for each in (RGB, RGB[:3], GREY, DEEP)])
    for data in (
        from_huggingface(of_dataset(images), "who", {"x": "image"}, {"x": corner}),
        from_folder(folder(tmp_path, *images), folders="clients", convert={"x": corner}),
    ):
        np.testing.assert_array_equal(data.client("ann")["x"], expected)
    plain = from_huggingface(of_dataset([images[0], images[2]]), "who", {"x": "image"})
    with pytest.raises(
        ValueError, match=r"client 'ann', has rows of different shapes: row 0 is \[4, 5, 3\], row 1 \[4"
    ):
        plain.client("ann")


def test_images_that_differ_in_more_than_size_are_named(tmp_path: Path):
    root = folder(tmp_path, png(image.fromarray(RGB)), png(image.fromarray(ALPHA)))
    with pytest.raises(ValueError, match=r"0\.png is uint8\[4,5,3\], but .*1\.png is uint8\[4,5,4\]: some are transp"):
        from_folder(root, folders="clients").client("ann")
    with pytest.raises(ValueError, match=r"1\.png has transparent parts, whose grey is unknown"):
        from_folder(root, folders="clients", greyscale=True).client("ann")


def test_what_pillow_would_leave_out_is_refused(tmp_path: Path):
    frames = gif(palette(FOUR), palette(FOUR[::-1]))
    with pytest.raises(ValueError, match=r"0\.gif has 2 frames; save the one that is meant"):
        from_folder(folder(tmp_path, frames), folders="clients").client("ann")
    with pytest.raises(ValueError, match="in row 1 has 2 frames"):
        from_huggingface(of_dataset([png(palette(FOUR)), frames]), "who", {"x": "image"}).client("ann")
    with pytest.raises(ValueError, match="in row 0 has 16 bits a channel, of which Pillow reads 8"):
        from_huggingface(of_dataset([deep_colours()]), "who", {"x": "image"}).client("ann")
    for header in (b"P6\n1 1\n65535\n\0\1\0\2\0\3", b"P3\n1 1\n65535\n1 2 3\n"):
        with pytest.raises(ValueError, match="in row 0 has colours up to 65535, of which Pillow makes 255"):
            from_huggingface(of_dataset([header]), "who", {"x": "image"}).client("ann")
    transparent = png(image.fromarray(np.array([[256, 3]], np.uint16)), transparency=256)
    with pytest.raises(ValueError, match="in row 0 is grey, of 16 bits, with a grey that is transparent"):
        from_huggingface(of_dataset([transparent]), "who", {"x": "image"}).client("ann")


def deep_colours() -> bytes:
    """A PNG of one pixel with 16 bits for red, green and blue each, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0" + struct.pack(">HHH", 1, 2, 3))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


def test_images_in_lists_and_those_of_a_declared_mode_are_decoded():
    features = datasets.Features({"who": datasets.Value("string"), "views": datasets.Sequence(datasets.Image())})
    stored = {"who": ["ann"], "views": [[image.fromarray(RGB), image.fromarray(RGB[::-1].copy())]]}
    found = from_huggingface(datasets.Dataset.from_dict(stored, features), "who").client("ann")["views"]
    np.testing.assert_array_equal(found, [[RGB, RGB[::-1]]])
    found = from_huggingface(of_dataset([png(palette(FOUR))], mode="L"), "who").client("ann")["image"]
    np.testing.assert_array_equal(found[0], np.asarray(image.fromarray(FOUR).convert("L")))
    found = from_huggingface(of_dataset([png(palette(FOUR))], mode="P"), "who").client("ann")["image"]
    np.testing.assert_array_equal(found[0], np.asarray(palette(FOUR).convert("RGB")))
    for mode in ("L", "RGB"):
        with pytest.raises(
            ValueError, match=f"in row 0 is of mode I;16, whose numbers are larger than those of {mode}"
        ):
            from_huggingface(of_dataset([png(image.fromarray(DEEP))], mode=mode), "who").client("ann")


def test_a_damaged_or_missing_image_is_named_by_its_row():
    with pytest.raises(
        DatasetError, match="column 'image' of the dataset, client 'ann', in row 1 is damaged, or no im"
    ):
        from_huggingface(of_dataset([png(palette(FOUR)), b"\x89PNG"]), "who").client("ann")
    with pytest.raises(ValueError, match="client 'ann', has no value in 1 rows, the first of which is row 1"):
        from_huggingface(of_dataset([png(palette(FOUR)), None]), "who").client("ann")
