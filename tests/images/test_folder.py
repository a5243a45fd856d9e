"""Folders of pictures: against PIL's own reading, for every mode and orientation, with files that are no pictures."""

import numpy as np
import pytest
import torch

pytest.importorskip("PIL", reason="Pillow is not installed")

from PIL import Image as pil

from gnnlib.images import graph_from_labels, image_folder, pixel_graph
from gnnlib.images._image import LUMA, as_array, parse_image, with_channels

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 4, 3)).astype(np.uint8)
GREY = COLOUR[..., 0]


def write(folder, **pictures):
    """Files by name, in which ``__`` stands for a folder and the last ``_`` for the dot."""
    for name, array in pictures.items():
        path = folder / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        pil.fromarray(array).save(path)
    return folder


def test_folders_are_classes(tmp_path):
    write(tmp_path, rose__b_png=COLOUR, daisy__old__2_tif=GREY, daisy__1_PNG=COLOUR + 1, rose__a_bmp=COLOUR + 2)
    write(tmp_path, **{"rose__.hidden_png": COLOUR, ".cache__x_png": COLOUR})
    (tmp_path / "notes").mkdir()
    (tmp_path / "daisy" / "readme.txt").write_text("no picture")
    photos = image_folder(str(tmp_path))
    assert photos.classes == ["daisy", "rose"]
    assert photos.labels.tolist() == [0, 0, 1, 1]
    assert [path.relative_to(tmp_path).as_posix() for path in photos.paths] == [
        "daisy/1.PNG", "daisy/old/2.tif", "rose/a.bmp", "rose/b.png",
    ]  # fmt: skip
    expected = [COLOUR + 1, np.stack([GREY] * 3, -1), COLOUR + 2, COLOUR]
    assert all(np.array_equal(photo, array) for photo, array in zip(photos, expected, strict=True))
    assert np.array_equal(photos[-1], COLOUR)
    assert not photos.unreadable
    part = photos[1:3]
    assert (len(part), part.classes, part.labels.tolist()) == (2, photos.classes, [0, 1])
    assert np.array_equal(part[1], COLOUR + 2)
    with pytest.raises(IndexError):
        photos[4]


def test_links_that_lead_back(tmp_path):
    write(tmp_path, rose__1_png=GREY)
    (tmp_path / "rose" / "again").symlink_to(tmp_path)
    assert [path.name for path in image_folder(tmp_path).paths] == ["1.png"]


def test_masks_and_label_maps_from_files(tmp_path):
    """As they are stored: a palette's numbers, and black and white as booleans."""
    labels = RNG.integers(0, 5, (6, 4)).astype(np.uint8)
    paletted = pil.fromarray(labels).convert("P")
    paletted.putdata(labels.ravel().tolist())
    write(tmp_path, mask_png=GREY > 60, photo_png=COLOUR)
    paletted.save(tmp_path / "labels.png")
    ours = graph_from_labels(tmp_path / "photo.png", tmp_path / "labels.png", mask=tmp_path / "mask.png")
    expected = graph_from_labels(COLOUR, labels, mask=GREY > 60)
    assert torch.equal(ours.ndata["feat"], expected.ndata["feat"])
    assert torch.equal(ours.label_map, expected.label_map)


def test_a_folder_without_classes_and_channels(tmp_path):
    write(tmp_path, b_png=GREY, a_png=GREY + 1)
    photos = image_folder(tmp_path)
    assert (photos.classes, photos.labels, photos.channels) == ([], None, 1)
    assert np.array_equal(photos[1], GREY)
    assert np.array_equal(image_folder(tmp_path, channels=3)[1], np.stack([GREY] * 3, -1))
    write(tmp_path, c_png=COLOUR)
    assert image_folder(tmp_path).channels == 3
    assert np.array_equal(image_folder(tmp_path, channels=1)[2], np.asarray(pil.fromarray(COLOUR).convert("L")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation, tmp_path):
    """Each of the eight is a known turn of the stored picture, for files and for PIL's images."""
    turns = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.swapaxes(0, 1),
             6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90}  # fmt: skip
    exif = pil.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    pil.fromarray(COLOUR).save(path, exif=exif)
    expected = turns[orientation](COLOUR)
    assert np.array_equal(image_folder(tmp_path)[0], expected)
    with pil.open(path) as image:
        assert np.array_equal(as_array(image), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "1", "L", "CMYK", "I;16", "I", "F"])
def test_modes(mode, tmp_path):
    """A path, a PIL image and an array are the same picture; alpha is dropped, 16 bits are fractions."""
    image = pil.fromarray(COLOUR)
    if mode == "PA":
        image = image.convert("P").convert("PA")
    elif mode in ("I;16", "I"):
        image = pil.fromarray(GREY.astype(np.uint16) * 257).convert(mode)
    else:
        image = image.convert(mode)
    if mode in ("RGBA", "LA"):
        image.putalpha(pil.fromarray(GREY))
    values = parse_image(image, 2).values
    assert values.shape == (6, 4, 3 if mode in ("RGBA", "PA", "P", "CMYK") else 1)
    if mode == "RGBA":
        assert np.array_equal(values, COLOUR / 255)
    if mode.startswith("I"):
        np.testing.assert_allclose(values[..., 0], GREY / 255, rtol=1e-12)
    if mode != "PA":  # which no format keeps
        path = tmp_path / ("x.tif" if mode in ("CMYK", "F", "I") else "x.png")
        image.save(path)
        assert np.array_equal(parse_image(path, 2).values, values)
        assert np.array_equal(parse_image(str(path), 2).values, values)
        assert torch.equal(pixel_graph(path).ndata["feat"], pixel_graph(image).ndata["feat"])


def test_integers_of_16_bits():
    levels = np.array([[0, 13107, 65535]], np.uint16)
    for image in (levels, torch.from_numpy(levels.astype(np.int32)).to(torch.uint16)):
        assert parse_image(image, 2).values[..., 0].tolist() == [[0.0, 0.2, 1.0]]
    with pytest.raises(ValueError, match=r"expected values from 0 to 65535, got 0 to 65536"):
        as_array(pil.fromarray(np.array([[0, 65536]], np.int32)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_with_channels(dtype):
    scale = 1 if dtype == np.float32 else np.iinfo(dtype).max
    colour = (RNG.random((5, 4, 3)) * scale).astype(dtype)
    one = with_channels(colour, 1)
    assert (one.dtype, one.shape) == (dtype, (5, 4))
    np.testing.assert_allclose(one, colour @ LUMA, atol=0.51 if scale > 1 else 1e-6)
    for grey in (one, one[..., None]):
        assert np.array_equal(with_channels(grey, 1), one)
        assert np.array_equal(with_channels(grey, 3), np.stack([one] * 3, -1))
    assert with_channels(colour, 3) is with_channels(colour, None) is colour
    with pytest.raises(ValueError, match=r"expected one channel or three, .* got \(5, 4, 2\)"):
        with_channels(colour[..., :2], 3)


def damaged(folder):
    """Three files that are no pictures, each for another reason."""
    write(folder, a__good_png=COLOUR, b__cut_png=np.zeros((90, 90), np.uint8), b__fine_png=COLOUR)
    data = RNG.integers(0, 256, (90, 90, 3)).astype(np.uint8)
    pil.fromarray(data).save(folder / "a" / "cut.jpg")
    for name in ("a/cut.jpg", "b/cut.png"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    (folder / "a" / "text.jpeg").write_text("no picture")
    return folder


def test_unreadable_files_are_named(tmp_path):
    damaged(tmp_path)
    message = r"got 3 of 5 that are not: a/cut.jpg \(.*\), a/text.jpeg \(no picture .*\), b/cut.png \(.*\)"
    with pytest.raises(ValueError, match=f"{message}; remove them, or write unreadable='skip'"):
        image_folder(tmp_path)
    with pytest.warns(RuntimeWarning, match=f"{message}; they are skipped"):
        photos = image_folder(tmp_path, unreadable="skip")
    assert [path.name for path in photos.unreadable] == ["cut.jpg", "text.jpeg", "cut.png"]
    assert photos.labels.tolist() == [0, 1]
    assert all(np.array_equal(photo, COLOUR) for photo in photos)
    with pytest.raises(ValueError, match=r"cut.jpg"):
        as_array(tmp_path / "a" / "cut.jpg")


def test_invalid_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere: expected a folder of pictures .* got none"):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"image: expected a picture's file, got .*nowhere.jpg"):
        as_array(tmp_path / "nowhere.jpg")
    write(tmp_path, top_png=GREY, rose__1_png=GREY)
    with pytest.raises(ValueError, match=r"got top.png beside rose/"):
        image_folder(tmp_path)
    with pytest.raises(ValueError, match="unreadable: expected 'raise' or 'skip', got 'ignore'"):
        image_folder(tmp_path, unreadable="ignore")
    with pytest.raises(ValueError, match="channels: expected None, 1 or 3, got 4"):
        image_folder(tmp_path, channels=4)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"got 1 of 1 that are not: x.png"):
        image_folder(tmp_path / "bad", unreadable="skip")
