"""Pictures as files: names, collisions, failures that leave nothing behind."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import pytest
from PIL import Image

from pipelines.library import files
from pipelines.library.files import sweep_temporaries
from pipelines.library.metadata.read import read_request
from pipelines.library.names import safe_stem, slug
from pipelines.spec.errors import NotSaved
from pipelines.spec.request import GenerationRequest, Prompt
from tests.library.conftest import REQUEST

ROOT = Path(__file__).resolve().parents[2]


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_saved_picture_is_whole_and_numbered(save, tmp_path):
    first, second = save(), save(seed=43)
    assert [path.name for path in (first, second)] == ["00001-42.png", "00002-43.png"]
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", first.parent.name)
    with Image.open(first) as picture:
        picture.load()
        assert (picture.size, picture.getpixel((0, 0))) == ((64, 48), (255, 0, 0))
    assert len(everything(tmp_path / "outputs")) == 2


def test_number_goes_on_after_the_highest(save):
    paths = [save() for _ in range(3)]
    paths[0].unlink()
    assert save().name == "00004-42.png"


def test_numbers_of_other_patterns_do_not_count(save):
    save(pattern="[seed]-[number]", seed=1234567890)
    assert save(pattern="[number]-[seed]").name == "00001-42.png"
    assert save(pattern="[seed]-[number]", seed=7).name == "7-00002.png"


@pytest.mark.parametrize("pattern", ["same", "[seed]", "x" * 400, "x" * 400 + "[number]", "[unknown]"])
def test_a_taken_name_is_never_overwritten(save, pattern):
    paths = [save(pattern=pattern, image=Image.new("RGB", (8, 8), (i, 0, 0))) for i in range(5)]
    assert len(set(paths)) == 5
    for i, path in enumerate(paths):
        with Image.open(path) as picture:
            assert picture.getpixel((0, 0)) == (i, 0, 0)


def test_tags_are_filled_once(save):
    request = GenerationRequest(model="m", prompt=Prompt(text="a [seed] fox, it runs"))
    pattern = "[prompt] [prompt_words] [model_name] [steps] [cfg] [width]x[height] [sampler] [seed]"
    name = save(request, pattern=pattern).name
    assert name == "a [seed] fox, it runs a seed fox it runs Demo 20 7 64x48 Euler 42.png"


RUN_SAVES = """
import sys
from pathlib import Path
from PIL import Image
from tests.library.conftest import RECORD, REQUEST
from pipelines.library.outputs import save_picture
picture = Image.new("RGB", (8, 8))
print("ready", flush=True)
sys.stdin.readline()
for i in range(int(sys.argv[2])):
    path = save_picture(picture, REQUEST, record=RECORD, seed=41, image_index=i, output_dir=Path(sys.argv[1]),
                        pattern=sys.argv[3], seconds=0.0)
    print(path.name, flush=True)
"""


def started_saver(output_dir: Path, count: int, pattern: str) -> subprocess.Popen:
    """A process that imported everything and waits for a line before it saves."""
    command = [sys.executable, "-c", RUN_SAVES, str(output_dir), str(count), pattern]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("pattern", ["[number]", "same"])
def test_two_processes_never_overwrite_each_other(tmp_path, pattern):
    processes = [started_saver(tmp_path, 200, pattern) for _ in range(2)]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    names = [name for process in processes for name in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0, 0]
    assert len(names) == len(set(names)) == len(everything(tmp_path)) == 400


@pytest.mark.skipif(sys.platform == "win32", reason="Windows renames instead of linking")
def test_a_disk_without_hard_links_is_as_safe(save, monkeypatch, tmp_path):
    def no_links(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    assert [save(pattern="same").name for _ in range(3)] == ["same.png", "same-2.png", "same-3.png"]
    temporary = files.write_temporary(tmp_path, lambda file: file.write(b"new"))
    (tmp_path / "there").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        files.publish(temporary, tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"old"


# One start of Python, 50 children: each saves pictures until it is killed in the middle of something.
KILL_SAVERS = """
import os, random, sys, time
from pathlib import Path
from PIL import Image
from tests.library.conftest import RECORD, REQUEST
from pipelines.library.outputs import save_picture
out, chance = Path(sys.argv[1]), random.Random(7)
picture = Image.effect_noise((192, 192), 80).convert("RGB")
saved, say = os.pipe()
for round in range(50):
    child = os.fork()
    while not child:
        save_picture(picture, REQUEST, record=RECORD, seed=41, image_index=round, output_dir=out,
                     pattern="[number]", seconds=0.0)
        os.write(say, b".")
    os.read(saved, 1)
    time.sleep(chance.uniform(0, 0.05))
    os.kill(child, 9)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="50 starts of a process would take minutes without fork")
def test_killed_at_random_times_every_picture_is_whole(tmp_path):
    """P7: what is called .png is a whole picture with its data, and the rest is swept at the next start."""
    command = [sys.executable, "-c", KILL_SAVERS, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["-9"] * 50
    pictures = list(tmp_path.rglob("*.png"))
    assert len(pictures) >= 50
    for path in pictures:
        with Image.open(path) as picture:
            picture.load()
        stored = read_request(path)
        assert stored
        assert stored.request == REQUEST
    # A temporary that already has its final name as well is no loss: it is the same file.
    left = [name for name in everything(tmp_path) if not name.endswith(".png")]
    assert sweep_temporaries(tmp_path, older_than_s=-60) == len(left)
    assert len(everything(tmp_path)) == len(pictures)


def test_sweep_takes_only_our_own_old_files(save, tmp_path):
    folder = save().parent
    old, young, foreign = (folder / f".emulsion-{c * 16}.tmp" for c in "abz")
    for path in (old, young, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (0, 0))
    assert sweep_temporaries(tmp_path / "outputs") == 1
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()


ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS, errno.EIO]


@pytest.mark.parametrize("code", ERRORS, ids=[errno.errorcode[code] for code in ERRORS])
@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_failing_disk_leaves_nothing_behind(save, monkeypatch, tmp_path, code, call):
    """P8."""
    good = save()

    def fail(*_):
        raise OSError(code, os.strerror(code))

    if call == "link" and code == errno.EACCES and sys.platform == "win32":
        pytest.skip("Windows renames instead of linking")
    monkeypatch.setattr(os, "rename" if sys.platform == "win32" and call == "link" else call, fail)
    with pytest.raises(NotSaved) as caught:
        save()
    assert str(tmp_path / "outputs") in caught.value.message
    assert caught.value.hint
    assert everything(tmp_path / "outputs") == [str(good.relative_to(tmp_path / "outputs"))]


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_real_size_limit_is_a_message(tmp_path):
    """P8 with the kernel's own error instead of ours."""
    script = """
import resource, sys
from pathlib import Path
from PIL import Image
from tests.library.conftest import RECORD, REQUEST
from pipelines.library.outputs import save_picture
from pipelines.spec.errors import NotSaved
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save_picture(Image.effect_noise((256, 256), 90), REQUEST, record=RECORD, seed=1, image_index=0,
                 output_dir=Path(sys.argv[1]), pattern="", seconds=0.0)
except NotSaved as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "larger than is allowed" in done.stdout
    assert everything(tmp_path) == []


def test_output_folder_that_is_a_file(save, tmp_path):
    """P9: works as root too."""
    (tmp_path / "outputs").write_text("mine")
    with pytest.raises(NotSaved, match="a file stands where the folder should be"):
        save()
    with pytest.raises(NotSaved, match="a file stands"):
        save(output_dir=tmp_path / "outputs" / "below")
    assert (tmp_path / "outputs").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_link_out_of_the_output_folder_is_refused(save, tmp_path):
    """P12."""
    day = save().parent
    for path in day.iterdir():
        path.unlink()
    day.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    day.symlink_to(elsewhere)
    with pytest.raises(NotSaved, match="leads out"):
        save()
    assert everything(elsewhere) == []


NAMES = [
    "../../etc/passwd", "/etc/passwd", "C:\\Windows\\win.ini", "\\\\server\\share", "~root", "..", ".", "",
    " ", "nul\0byte", "CON", "con.txt", "LPT1", "COM¹.x", "aux ", "x" * 300, "名" * 300, "😀" * 300,
    "trailing. .", ".hidden", "-rf", 'a<b>c:d"e|f?g*h', "line\nbreak\ttab", "right\u202eto left",
    "half \ud800 pair", "e\u0301" * 200, "[prompt]",
]  # fmt: skip


@pytest.mark.parametrize("text", NAMES, ids=ascii)
@pytest.mark.parametrize("where", ["pattern", "prompt"])
def test_names_stay_inside_and_are_legal_everywhere(save, tmp_path, text, where):
    """P11."""
    if where == "pattern":
        path = save(pattern=text)
    else:
        path = save(GenerationRequest(model="m", prompt=Prompt(text=text)), pattern="[prompt]")
    assert path.is_file()
    assert path.parent.parent == tmp_path / "outputs"
    assert path.resolve().is_relative_to((tmp_path / "outputs").resolve())
    stem = path.stem
    assert len(path.name.encode()) <= 200
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f]', stem)
    assert stem == stem.strip(" .")
    assert not stem.startswith((".", "-", "~"))
    assert not is_reserved(stem)


def is_reserved(name: str) -> bool:
    return PureWindowsPath(name).is_reserved() if sys.version_info < (3, 13) else os.path.isreserved(name)


def test_an_ending_survives_the_cut():
    assert safe_stem("x" * 500, "-17").endswith("x-17")
    assert len(safe_stem("é" * 500, "-17").encode()) <= 150


def test_slug():
    assert [slug(name) for name in ("SD v1.5 (pruned)", "../..", "猫", "...")] == [
        "sd-v1.5-pruned", "model", "猫", "model",
    ]  # fmt: skip
