"""The gallery's list, the thumbnails and 'save as'."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from pipelines.library.export import export_picture
from pipelines.library.gallery import PictureEntry, newest_first
from pipelines.library.pictures import UnreadablePicture
from pipelines.library.thumbnails import Thumbnails
from pipelines.spec.errors import NotSaved


def picture(path: Path, seconds: float = 0.0, size: tuple[int, int] = (40, 20), **save) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "blue").save(path, **save)
    os.utime(path, (seconds, seconds))
    return path


def colour(image: Image.Image) -> tuple[int, ...]:
    value = image.getpixel((5, 5))
    assert isinstance(value, tuple)
    return value


def test_gallery_is_newest_first_over_the_days(tmp_path):
    old = picture(tmp_path / "2025-01-01" / "z.png", 300)
    second = picture(tmp_path / "2025-01-02" / "b.jpg", 100)
    first = picture(tmp_path / "2025-01-02" / "a.webp", 200, size=(30, 10))
    assert newest_first(tmp_path, 10) == [
        PictureEntry(first, 200, 30, 10),
        PictureEntry(second, 100, 40, 20),
        PictureEntry(old, 300, 40, 20),
    ]
    assert [entry.path for entry in newest_first(tmp_path, 2)] == [first, second]
    assert newest_first(tmp_path, 0) == []


def test_gallery_shows_nothing_that_is_no_picture(tmp_path):
    day = tmp_path / "2025-01-01"
    good = picture(day / "good.png")
    (day / "empty.png").touch()
    (day / "text.png").write_text("not a picture")
    (day / ".emulsion-0123456789abcdef.tmp").write_bytes(good.read_bytes())
    (day / "folder.png").mkdir()
    picture(tmp_path / "private" / "other.png")
    picture(day / "below" / "other.png")
    assert [entry.path for entry in newest_first(tmp_path, 10)] == [good]
    assert newest_first(tmp_path / "missing", 10) == []


def test_gallery_finds_what_was_saved(save, tmp_path):
    path = save()
    (entry,) = newest_first(tmp_path / "outputs", 10)
    assert (entry.path, entry.width, entry.height) == (path, 64, 48)


def test_thumbnail_fits_and_is_kept(tmp_path, monkeypatch):
    path = picture(tmp_path / "wide.png", size=(1000, 500))
    thumbnails = Thumbnails(tmp_path / "cache")
    first = thumbnails.get(path, 128)
    assert (first.size, first.mode) == ((128, 64), "RGB")
    monkeypatch.setattr("pipelines.library.thumbnails.open_picture", None)
    assert thumbnails.get(path, 128).size == (128, 64)


def test_a_changed_picture_gets_a_new_thumbnail(tmp_path):
    path = picture(tmp_path / "a.png", 1)
    thumbnails = Thumbnails(tmp_path / "cache")
    assert colour(thumbnails.get(path))[2] > 200
    Image.new("RGB", (40, 20), "red").save(path)
    os.utime(path, (2, 2))
    assert colour(thumbnails.get(path))[0] > 200


def test_a_damaged_or_unwritable_cache_does_not_matter(tmp_path):
    path = picture(tmp_path / "a.png")
    thumbnails = Thumbnails(tmp_path / "cache")
    thumbnails.get(path)
    for kept in (tmp_path / "cache").rglob("*.jpg"):
        kept.write_bytes(b"broken")
    assert thumbnails.get(path).size == (40, 20)
    (tmp_path / "file").touch()
    assert Thumbnails(tmp_path / "file").get(path).size == (40, 20)


def test_the_cache_is_bounded(tmp_path):
    thumbnails = Thumbnails(tmp_path / "cache")
    for i in range(6):
        thumbnails.get(picture(tmp_path / f"{i}.png"))
    thumbnails.trim(most=2)
    assert len(list((tmp_path / "cache").rglob("*.jpg"))) == 2


def test_thumbnails_are_upright_and_opaque(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    turned = picture(tmp_path / "turned.jpg", exif=exif)
    thumbnails = Thumbnails(tmp_path / "cache")
    assert thumbnails.get(turned).size == (20, 40)
    Image.new("RGBA", (10, 10), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert max(abs(value - 128) for value in colour(thumbnails.get(tmp_path / "clear.png"))) < 8


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"GIF89a", None])
def test_an_unreadable_picture_is_a_message(tmp_path, content):
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadablePicture, match=r"bad\.png cannot be shown"):
        Thumbnails(tmp_path / "cache").get(path)


def test_a_cut_picture_is_a_message(tmp_path):
    path = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 90).save(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(UnreadablePicture):
        Thumbnails(tmp_path / "cache").get(path)


def test_export_replaces_whole_or_not_at_all(save, tmp_path, monkeypatch):
    source, target = save(), tmp_path / "copy.jpg"
    target.write_bytes(b"old")
    export_picture(source, target)
    with Image.open(target) as copy:
        assert (copy.format, copy.size) == ("JPEG", (64, 48))
    for bad in (tmp_path / "copy.bmp", tmp_path / "missing" / "copy.png", target / "below.png"):
        with pytest.raises(NotSaved) as caught:
            export_picture(source, bad)
        assert caught.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.jpg", "outputs"]
