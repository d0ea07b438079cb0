"""N1, N2, N4 and N8: one file, from hosts that behave and hosts that do not."""

import errno
import gzip
import threading
import time

import pytest

from pipelines.library.download import part as parts
from pipelines.library.download.client import Client
from pipelines.library.download.errors import DownloadError, LostConnection, NoRoom
from pipelines.library.download.fetch import Fetch
from pipelines.library.download.plan import PlannedFile
from pipelines.library.index import scan
from pipelines.spec.errors import Cancelled
from tests.library.download.site import ETAG, cutting, safetensors, says, sha256, whole

pytestmark = pytest.mark.local_server
DATA = safetensors()
OTHER = safetensors(seed=2)
NAME, SIZE = "model.safetensors", len(DATA)


@pytest.fixture
def fetch(site, client, control, tmp_path):
    """Fetches /f into tmp_path; what is known of the file beforehand may be given."""

    def run(known=None, *, name=NAME, told=None, asked=client, **facts):
        file = PlannedFile(url=site.url("/f"), path=name, **(known or {}), **facts)
        tell = lambda *figures: told.append(figures) if told is not None else None  # noqa: E731
        return Fetch(asked, file, tmp_path / name, control, tell).run()

    return run


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def begun(folder, data, etag=ETAG, total: int | None = SIZE, *, url):
    """As a killed program leaves it."""
    (folder / f"{NAME}.part").write_bytes(data)
    facts = parts.PartFacts(url, total, etag)
    parts.write_facts(folder / f"{NAME}.part", facts)


def test_a_good_host(site, fetch, tmp_path):
    site.pages["/f"] = whole(DATA)
    told = []
    assert fetch(size=len(DATA), sha256=sha256(DATA), told=told) == tmp_path / NAME
    assert (tmp_path / NAME).read_bytes() == DATA
    assert left(tmp_path) == [NAME]
    assert told[-1] == (len(DATA), len(DATA), True)
    (seen,) = site.seen
    assert seen.headers["user-agent"].startswith("Emulsion/")
    assert seen.headers["accept-encoding"] == "identity"


def test_n1_a_lost_connection_goes_on_where_it_was(site, fetch, tmp_path, control):
    site.pages["/f"] = cutting(DATA, 70_000)
    fetch(sha256=sha256(DATA))
    assert (tmp_path / NAME).read_bytes() == DATA
    assert [each.range for each in site.seen] == ["", "bytes=70000-"]
    assert site.seen[1].headers["if-range"] == ETAG
    assert control.waits == [2.0]


def test_n1_after_three_tries_it_says_how_to_go_on(site, fetch, tmp_path, control):
    site.pages["/f"] = cutting(DATA, 1000, times=99)
    with pytest.raises(LostConnection, match="3 tries in a row ended so, at 3 kB of 200 kB") as caught:
        fetch()
    assert "what has come so far is kept" in caught.value.hint
    assert (tmp_path / f"{NAME}.part").read_bytes() == DATA[:3000]
    assert control.waits == [2.0, 8.0]
    assert len(site.seen) == 3
    site.pages["/f"] = whole(DATA)
    fetch()
    assert site.seen[-1].range == "bytes=3000-"
    assert (tmp_path / NAME).read_bytes() == DATA


def test_n1_a_try_that_brought_much_does_not_count(site, fetch, tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.library.download.fetch.WORTH_BYTES", 20_000)
    site.pages["/f"] = cutting(DATA, 30_000, times=5)
    fetch(sha256=sha256(DATA))
    assert (tmp_path / NAME).read_bytes() == DATA
    assert len(site.seen) == 6


def test_a_killed_download_is_resumed_bit_for_bit(site, fetch, tmp_path):
    site.pages["/f"] = whole(DATA)
    begun(tmp_path, DATA[:123_456], url=site.url("/f"))
    fetch(sha256=sha256(DATA))
    assert [each.range for each in site.seen] == ["bytes=123456-"]
    assert (tmp_path / NAME).read_bytes() == DATA
    assert left(tmp_path) == [NAME]


def test_one_that_was_killed_before_its_name_needs_no_host(site, fetch, tmp_path):
    begun(tmp_path, DATA, url=site.url("/f"))
    fetch(sha256=sha256(DATA))
    assert (tmp_path / NAME).read_bytes() == DATA
    assert not site.seen


def ignores_range(request, seen):
    request.say(200, DATA, ETag=ETAG)


def other_piece(request, seen):
    if not seen.range:
        ignores_range(request, seen)
        return
    request.say(206, DATA[10:], Content_Range=f"bytes 10-{len(DATA) - 1}/{len(DATA)}", ETag=ETAG)


def other_piece_of_the_right_length(request, seen):
    if not seen.range:
        ignores_range(request, seen)
        return
    request.say(206, DATA[1000:], Content_Range=f"bytes 1200-{len(DATA) - 1}/{len(DATA)}", ETag=ETAG)


def other_total(request, seen):
    if not seen.range:
        ignores_range(request, seen)
        return
    span = f"bytes 1000-{len(DATA) - 1}/{len(DATA) + 5}"
    request.say(206, DATA[1000:], Content_Range=span, ETag=ETAG)


def no_piece_told(request, seen):
    if not seen.range:
        ignores_range(request, seen)
        return
    request.say(206, DATA[1000:], ETag=ETAG)


def etag_in_a_piece_changed(request, seen):
    if not seen.range:
        request.say(200, DATA, ETag='"second"')
        return
    span = f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"
    request.say(206, OTHER[1000:], Content_Range=span, ETag='"second"')


def date_in_a_piece_is_another(request, seen):
    told = {"Last_Modified": "Thu, 26 Nov 2026 10:00:00 GMT"}
    if not seen.range:
        request.say(200, DATA, **told)
        return
    request.say(206, OTHER[1000:], Content_Range=f"bytes 1000-{len(DATA) - 1}/{len(DATA)}", **told)


def piece_is_packed(request, seen):
    if not seen.range:
        ignores_range(request, seen)
        return
    span = f"bytes 1000-{len(DATA) - 1}/{len(DATA)}"
    body = gzip.compress(DATA[1000:])
    request.say(206, body, Content_Range=span, ETag=ETAG, Content_Encoding="gzip")


def always_416(request, seen):
    if not seen.range:
        ignores_range(request, seen)
        return
    request.say(416, b"", Content_Range=f"bytes */{len(DATA) - 7}")


VARIANTS = (
    ignores_range, other_piece, other_piece_of_the_right_length, other_total, no_piece_told,
    etag_in_a_piece_changed, date_in_a_piece_is_another, piece_is_packed, always_416,
    whole(DATA, '"second"'),
)  # fmt: skip


@pytest.mark.parametrize("page", VARIANTS, ids=lambda page: page.__name__)
@pytest.mark.parametrize("known", [{}, {"size": len(DATA), "sha256": sha256(DATA)}], ids=["bare", "known"])
def test_n2_never_a_glued_file(site, fetch, tmp_path, page, known):
    """What was begun is of another version, so that any byte of it at the end is seen."""
    site.pages["/f"] = page
    begun(tmp_path, OTHER[:1000], url=site.url("/f"))
    fetch(known)
    assert (tmp_path / NAME).read_bytes() == DATA
    assert left(tmp_path) == [NAME]


@pytest.mark.parametrize(
    ("etag", "total", "data"),
    [("", len(DATA), OTHER[:1000]), (ETAG, 500, OTHER[:1000]), (ETAG, 999, OTHER[:1000])],
    ids=["nothing to compare by", "more than there is", "more by one"],
)
def test_n2_a_part_that_cannot_be_trusted_is_begun_again(site, fetch, tmp_path, etag, total, data):
    site.pages["/f"] = whole(DATA)
    begun(tmp_path, data, etag, total, url=site.url("/f"))
    fetch()
    assert [each.range for each in site.seen] == [""]
    assert (tmp_path / NAME).read_bytes() == DATA


@pytest.mark.parametrize("etag", ['W/"weak"', "", '""', "unquoted"])
def test_n2_a_weak_etag_is_never_resumed_by(site, fetch, tmp_path, etag):
    pages = [cutting(DATA, 500, etag=etag), whole(DATA, etag)]
    site.pages["/f"] = lambda request, seen: pages.pop(0)(request, seen)
    fetch()
    assert [each.range for each in site.seen] == ["", ""]
    assert (tmp_path / NAME).read_bytes() == DATA


def test_n2_a_date_will_do(site, fetch, tmp_path):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"

    def page(request, seen):
        if seen.range:
            assert seen.headers["if-range"] == date
            request.say(206, DATA[500:], Content_Range=f"bytes 500-{len(DATA) - 1}/{len(DATA)}")
        else:
            request.say(200, DATA[:500], Content_Length=str(len(DATA)), Last_Modified=date)
            request.cut()

    site.pages["/f"] = page
    fetch()
    assert (tmp_path / NAME).read_bytes() == DATA


def test_n2_the_whole_is_there_says_416(site, fetch, tmp_path):
    site.pages["/f"] = whole(DATA)
    begun(tmp_path, DATA, total=None, url=site.url("/f"))
    fetch()
    assert site.seen[0].range == f"bytes={len(DATA)}-"
    assert (tmp_path / NAME).read_bytes() == DATA


def closes_at_end(request, seen):
    request.say(200, DATA, Content_Length="")


def chunked(request, seen):
    request.say(200, b"", Content_Length="", Transfer_Encoding="chunked")
    for begin in range(0, len(DATA), 50_000):
        piece = DATA[begin : begin + 50_000]
        request.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    request.wfile.write(b"0\r\n\r\n")


def senseless_length(request, seen):
    request.say(200, DATA, Content_Length="many")
    request.cut()


def packed(request, seen):
    body = gzip.compress(DATA)
    request.say(200, body, Content_Encoding="gzip", Content_Length=str(len(body)), ETag=ETAG)


@pytest.mark.parametrize("page", [closes_at_end, chunked, senseless_length, packed], ids=lambda p: p.__name__)
@pytest.mark.parametrize("known", [{}, {"size": len(DATA), "sha256": sha256(DATA)}], ids=["bare", "known"])
def test_n2_without_a_length_it_ends_rightly(site, fetch, tmp_path, page, known):
    site.pages["/f"] = page
    fetch(known)
    assert (tmp_path / NAME).read_bytes() == DATA


@pytest.mark.parametrize(
    "known", [{}, {"size": len(DATA)}, {"sha256": sha256(DATA)}], ids=["bare", "size", "sum"]
)
def test_n2_cut_off_without_a_length_is_noticed(site, fetch, tmp_path, known):
    """The header of the model itself says how long it is."""
    pages = [says(200, DATA[:5000], Content_Length="")]
    site.pages["/f"] = lambda request, seen: (pages.pop() if pages else whole(DATA))(request, seen)
    if "sha256" in known:  # nothing tells a cut from a fault, so it is not tried again by itself
        with pytest.raises(DownloadError, match="damaged"):
            fetch(known)
        assert left(tmp_path) == [f"{NAME}.bad"]
    else:
        fetch(known)
        assert (tmp_path / NAME).read_bytes() == DATA


def test_n2_packed_and_cut_off_is_begun_again(site, fetch, tmp_path):
    body = gzip.compress(DATA)

    def page(request, seen):
        if len(site.seen) > 1:
            packed(request, seen)
            return
        request.say(200, body[:9000], Content_Encoding="gzip", Content_Length=str(len(body)))
        request.cut()

    site.pages["/f"] = page
    fetch()
    assert [each.range for each in site.seen] == ["", ""]
    assert (tmp_path / NAME).read_bytes() == DATA


def test_n2_a_host_that_says_too_little_is_caught(site, fetch, tmp_path):
    site.pages["/f"] = says(200, DATA, Content_Length=str(len(DATA) - 10))
    with pytest.raises(DownloadError, match="incomplete"):
        fetch()
    assert left(tmp_path) == [f"{NAME}.bad"]


def test_another_size_than_planned_is_refused_before_a_byte(site, fetch, tmp_path):
    site.pages["/f"] = whole(OTHER)
    with pytest.raises(DownloadError, match="look again"):
        fetch(size=len(OTHER) + 1)
    assert left(tmp_path) == []


@pytest.mark.parametrize("at", [60, 1000, len(DATA) - 1])
def test_n4_a_flipped_byte_is_set_aside_and_listed_nowhere(site, fetch, tmp_path, at):
    bad = bytearray(DATA)
    bad[at] ^= 1
    site.pages["/f"] = whole(bytes(bad))
    with pytest.raises(DownloadError, match="is damaged: its SHA-256 is"):
        fetch(sha256=sha256(DATA))
    assert left(tmp_path) == [f"{NAME}.bad"]
    assert scan([tmp_path], database=tmp_path / "index.sqlite") == ()


def test_n4_the_sum_is_over_the_resumed_head_too(site, fetch, tmp_path):
    site.pages["/f"] = whole(DATA)
    begun(tmp_path, OTHER[:1000], url=site.url("/f"))
    with pytest.raises(DownloadError, match="damaged"):
        fetch(sha256=sha256(DATA))
    assert left(tmp_path) == [f"{NAME}.bad"]


def test_n4_a_second_bad_one_gets_its_own_name(site, fetch, tmp_path):
    site.pages["/f"] = whole(OTHER)
    for _ in range(2):
        with pytest.raises(DownloadError, match="damaged"):
            fetch(sha256=sha256(DATA))
    assert left(tmp_path) == [f"{NAME} (2).bad", f"{NAME}.bad"]


def test_a_part_is_no_model_while_it_comes(site, fetch, tmp_path):
    begun(tmp_path, DATA[:5000], url=site.url("/f"))
    assert scan([tmp_path], database=tmp_path / "index.sqlite") == ()


def test_n8_a_host_that_falls_silent(site, hosts, fetch, tmp_path):
    go_on = threading.Event()

    def page(request, seen):
        if len(site.seen) > 1:
            whole(DATA)(request, seen)
            return
        request.say(200, DATA[:5000], Content_Length=str(len(DATA)), ETag=ETAG)
        go_on.wait(60)
        request.cut()

    site.pages["/f"] = page
    impatient = Client(hosts, stall_s=0.2)
    try:
        fetch(asked=impatient)
    finally:
        go_on.set()
        impatient.close()
    assert site.seen[1].range == "bytes=5000-"
    assert (tmp_path / NAME).read_bytes() == DATA


def test_n8_thirty_seconds_is_the_default():
    assert Client()._settings["timeout"].read_timeout == 30.0


def test_n8_it_is_told_in_words(site, hosts, fetch):
    go_on = threading.Event()
    site.pages["/f"] = lambda request, seen: go_on.wait(60)
    impatient = Client(hosts, stall_s=0.1)
    try:
        with pytest.raises(LostConnection, match=r"has sent nothing for 0\.1 seconds"):
            fetch(asked=impatient)
    finally:
        go_on.set()
        impatient.close()
    assert len(site.seen) == 3


def test_stop_wakes_a_read_that_waits(site, fetch, control, tmp_path):
    go_on, came = threading.Event(), threading.Event()

    def page(request, seen):
        request.say(200, DATA[:5000], Content_Length=str(len(DATA)), ETag=ETAG)
        request.wfile.flush()
        go_on.wait(60)
        request.cut()

    site.pages["/f"] = page
    told = type("Told", (list,), {"append": lambda self, figures: came.set()})()
    stopper = threading.Thread(target=lambda: came.wait(60) and control.stop())
    stopper.start()
    try:
        with pytest.raises(Cancelled):
            fetch(told=told)
        assert not go_on.is_set()
    finally:
        go_on.set()
        stopper.join()
    assert (tmp_path / f"{NAME}.part").read_bytes() == DATA[:5000]


def test_stop_wakes_one_that_waits_for_the_first_word(site, fetch, control, tmp_path):
    go_on, asked = threading.Event(), threading.Event()

    def page(request, seen):
        asked.set()
        go_on.wait(60)

    site.pages["/f"] = page
    stopper = threading.Thread(target=lambda: asked.wait(60) and control.stop())
    stopper.start()
    begin = time.monotonic()
    try:
        with pytest.raises(Cancelled):
            fetch()
    finally:
        go_on.set()
        stopper.join()
    assert time.monotonic() - begin < 4, "the host's silence of 5 s is not waited for"
    assert left(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_p8_a_full_disk_keeps_what_has_come(site, fetch, tmp_path, monkeypatch, code):
    site.pages["/f"] = whole(DATA)
    real = parts.write_all

    def write(file, data):
        room = 40_000 - file.tell()
        if len(data) > room:
            real(file, data[:room])
            raise OSError(code, "No space left on device")
        real(file, data)

    monkeypatch.setattr(parts, "write_all", write)
    with pytest.raises(NoRoom, match="is full") as caught:
        fetch(sha256=sha256(DATA))
    assert "kept" in caught.value.hint
    assert (tmp_path / f"{NAME}.part").read_bytes() == DATA[:40_000]
    monkeypatch.undo()
    fetch(sha256=sha256(DATA))
    assert (tmp_path / NAME).read_bytes() == DATA
    assert site.seen[-1].range == "bytes=40000-"


def test_a_folder_that_cannot_be_written_is_named(site, fetch, tmp_path, client, control):
    (tmp_path / "file").write_text("not a folder")
    file = PlannedFile(url=site.url("/f"), path=NAME)
    with pytest.raises(DownloadError, match="cannot be written"):
        Fetch(client, file, tmp_path / "file" / NAME, control, lambda *_: None).run()
    assert not site.seen


def test_the_same_file_is_not_fetched_again(site, fetch, tmp_path):
    site.pages["/f"] = whole(DATA)
    (tmp_path / NAME).write_bytes(DATA)
    assert fetch(sha256=sha256(DATA), size=len(DATA)) == tmp_path / NAME
    assert not site.seen


def test_another_file_of_that_name_is_never_replaced(site, fetch, tmp_path):
    site.pages["/f"] = whole(DATA)
    (tmp_path / NAME).write_bytes(OTHER)
    assert fetch(sha256=sha256(DATA)) == tmp_path / "model (2).safetensors"
    assert (tmp_path / NAME).read_bytes() == OTHER
    assert (tmp_path / "model (2).safetensors").read_bytes() == DATA


def test_without_a_sum_the_same_file_is_found_out_at_the_end(site, fetch, tmp_path):
    site.pages["/f"] = whole(DATA)
    (tmp_path / NAME).write_bytes(DATA)
    assert fetch() == tmp_path / NAME
    assert left(tmp_path) == [NAME]


def test_a_file_that_appears_meanwhile_is_not_replaced(site, fetch, tmp_path):
    def page(request, seen):
        (tmp_path / NAME).write_bytes(OTHER)
        whole(DATA)(request, seen)

    site.pages["/f"] = page
    assert fetch(sha256=sha256(DATA)) == tmp_path / "model (2).safetensors"
    assert (tmp_path / NAME).read_bytes() == OTHER


def test_the_part_of_another_address_is_left_alone(site, fetch, tmp_path):
    site.pages["/f"] = whole(DATA)
    begun(tmp_path, OTHER[:1000], url=site.url("/other"))
    assert fetch() == tmp_path / "model (2).safetensors"
    assert (tmp_path / f"{NAME}.part").read_bytes() == OTHER[:1000]


def test_a_part_without_its_facts_is_somebody_elses(site, fetch, tmp_path):
    site.pages["/f"] = whole(DATA)
    (tmp_path / f"{NAME}.part").write_bytes(b"a browser's")
    assert fetch() == tmp_path / "model (2).safetensors"
    assert (tmp_path / f"{NAME}.part").read_bytes() == b"a browser's"


def test_two_never_write_into_one_part(site, fetch, tmp_path):
    site.pages["/f"] = whole(DATA)
    first = parts.opened(tmp_path / NAME, site.url("/f"))
    assert first is not None
    first.append(OTHER[:100])
    try:
        assert fetch() == tmp_path / "model (2).safetensors"
    finally:
        first.close()
    assert (tmp_path / f"{NAME}.part").read_bytes() == OTHER[:100]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"url": 1, "total": 2, "validator": ""}', "\x00" * 50])
def test_damaged_facts_are_no_facts(tmp_path, text):
    (tmp_path / "x.part.json").write_text(text)
    assert parts.read_facts(tmp_path / "x.part") is None
