"""N3, N5 and N6: what a host may not do: pages for models, other hosts for tokens, paths for names, archives."""

import io
import logging
import time
import zipfile
from email.utils import formatdate

import pytest

from pipelines.library.download.answers import retry_after
from pipelines.library.download.client import Client
from pipelines.library.download.errors import DownloadError, HostBusy, LostConnection, TokenWanted
from pipelines.library.download.fetch import Fetch
from pipelines.library.download.file_names import inner_path, offered_name, safe_name
from pipelines.library.download.hosts import Hosts, without_secrets
from pipelines.library.download.look import look
from pipelines.library.download.plan import PlannedFile
from pipelines.library.download.run import download
from pipelines.library.download.sources import parse
from tests.library.download.site import ETAG, safetensors, says, sha256, whole

pytestmark = pytest.mark.local_server
DATA = safetensors()
NAME = "model.safetensors"
CANARY = "hf_CANARYcanaryCANARY"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0"
HTML = b"<!DOCTYPE html><html><body>Please sign in</body></html>"


@pytest.fixture
def fetch(site, client, control, tmp_path):
    def run(asked=client, name=NAME, **facts):
        file = PlannedFile(url=site.url("/f"), path=name, **facts)
        return Fetch(asked, file, tmp_path / name, control, lambda *_: None).run()

    return run


def safetensors_that_are(body):
    return says(200, body, ETag=ETAG)


def zipped():
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr("../../slip.safetensors", DATA)
    return memory.getvalue()


REFUSED = {
    "html": (says(200, HTML, Content_Type="text/html; charset=utf-8"), "a web page"),
    "html called bytes": (safetensors_that_are(HTML), "a web page"),
    "json": (says(200, b'{"error": "no"}', Content_Type="application/json"), "a message"),
    "json called bytes": (safetensors_that_are(b'{"error": "no such model for you, my friend"}'), "message of a web"),
    "git lfs pointer": (safetensors_that_are(LFS), "LFS pointer"),
    "zip (N6)": (safetensors_that_are(zipped()), "archive"),
    "gzip": (safetensors_that_are(b"\x1f\x8b\x08" + bytes(200)), "archive"),
    "pickle": (safetensors_that_are(b"\x80\x02}q\x00." + bytes(200)), "pickle"),
    "empty": (says(200, b""), "empty"),
    "404": (says(404), r"has no model.safetensors \(404\)"),
    "410": (says(410), "410"),
    "418": (says(418), "refuses"),
    "206 unasked": (says(206, DATA), "refuses"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_n3_refused_before_it_is_saved(site, fetch, tmp_path, case):
    page, words = REFUSED[case]
    site.pages["/f"] = page
    with pytest.raises(DownloadError, match=words):
        fetch()
    assert [path.name for path in tmp_path.iterdir()] == []
    assert len(site.seen) == 1


def test_n3_a_page_in_the_place_of_the_rest_keeps_what_has_come(site, fetch, tmp_path):
    pages = [
        lambda request, seen: (
            request.say(200, DATA[:900], Content_Length=str(len(DATA)), ETag=ETAG),
            request.cut(),
        ),
        says(403, HTML, Content_Type="text/html"),
    ]
    site.pages["/f"] = lambda request, seen: pages.pop(0)(request, seen)
    with pytest.raises(DownloadError, match="403"):
        fetch()
    assert (tmp_path / f"{NAME}.part").read_bytes() == DATA[:900]


@pytest.mark.parametrize(
    ("status", "token", "words", "hint"),
    [
        (401, "", "only to those with a token", "Make one at huggingface.co/settings/tokens"),
        (403, "", "only to those with a token", "Make one"),
        (401, CANARY, "does not accept the token", "Make a new one"),
        (403, CANARY, "does not let the owner of this token", "Accept its licence"),
    ],
)
def test_n3_what_a_token_has_to_do_with_it(site, hosts, fetch, status, token, words, hint):
    site.pages["/f"] = says(status, HTML, Content_Type="text/html")
    asked = Client(hosts, lambda name: token)
    with pytest.raises(TokenWanted, match=words) as caught:
        fetch(asked)
    asked.close()
    assert hint in caught.value.hint
    assert caught.value.host == "huggingface"
    assert CANARY not in str(caught.value)


def test_n3_a_strange_host_is_told_of_no_token(site, fetch):
    site.pages["/f"] = says(403)
    asked = Client(Hosts(), lambda name: CANARY)
    with pytest.raises(DownloadError, match=r"does not give model\.safetensors to everybody") as caught:
        fetch(asked)
    asked.close()
    assert not isinstance(caught.value, TokenWanted)
    assert "authorization" not in site.seen[0].headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_n3_the_token_never_follows_to_another_host(site, other_site, hosts, fetch, tmp_path, status, caplog):
    caplog.set_level(logging.DEBUG)
    other_site.pages["/cdn"] = whole(DATA)
    site.pages["/f"] = says(status, Location=other_site.url("/cdn?X-Signature=abc"))
    asked = Client(hosts, lambda name: CANARY if name == "huggingface" else "")
    fetch(asked, sha256=sha256(DATA))
    asked.close()
    assert site.seen[0].headers["authorization"] == f"Bearer {CANARY}"
    (seen,) = other_site.seen
    assert not any(CANARY in text for text in (*seen.headers.values(), seen.path))
    assert (tmp_path / NAME).read_bytes() == DATA
    assert CANARY not in caplog.text


def test_n3_there_and_back_it_is_sent_to_its_own_host_only(site, other_site, hosts, fetch):
    site.pages["/f"] = says(302, Location=other_site.url("/hop"))
    other_site.pages["/hop"] = says(302, Location=site.url("/g"))
    site.pages["/g"] = whole(DATA)
    asked = Client(hosts, lambda name: CANARY)
    fetch(asked)
    asked.close()
    assert [CANARY in each.headers.get("authorization", "") for each in site.seen] == [True, True]
    assert "authorization" not in other_site.seen[0].headers


def test_n3_hosts_that_only_look_alike_get_no_token():
    hosts = Hosts()
    for url in (
        "http://huggingface.co/x", "https://huggingface.co.evil.org/x", "https://huggingface.co:444/x",
        "https://evil.org/huggingface.co", "https://cdn-lfs.huggingface.co/x", "https://xhuggingface.co/x",
    ):  # fmt: skip
        assert hosts.token_name(url) == "", url
    assert hosts.token_name("https://HuggingFace.co:443/x") == "huggingface"
    assert hosts.token_name("https://civitai.com/api") == "civitai"


def test_n3_no_end_of_redirects(site, fetch):
    site.pages["/f"] = says(302, Location="/f")
    with pytest.raises(DownloadError, match="without end"):
        fetch()
    assert len(site.seen) == 8


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://user:pw@127.0.0.1/x", "http://[::1"]
)
def test_n3_redirects_to_what_is_no_web_address(site, fetch, target):
    site.pages["/f"] = says(302, Location=target)
    with pytest.raises(DownloadError):
        fetch()
    assert len(site.seen) == 1


def test_n3_a_login_page_is_a_wish_for_a_token(site, fetch):
    site.pages["/f"] = says(307, Location="/login?reason=download-auth")
    with pytest.raises(TokenWanted):
        fetch()
    assert len(site.seen) == 1


@pytest.mark.parametrize(
    ("header", "waits"), [("5", [5.0, 5.0]), ("0", [0.0, 0.0]), ("", [2.0, 8.0]), ("soon", [2.0, 8.0])]
)
@pytest.mark.parametrize("status", [429, 503])
def test_n3_busy_hosts_are_waited_for(site, fetch, control, header, waits, status):
    site.pages["/f"] = says(status, Retry_After=header)
    with pytest.raises(LostConnection):
        fetch()
    assert control.waits == waits
    assert len(site.seen) == 3


def test_n3_but_not_for_an_hour(site, fetch, control):
    site.pages["/f"] = says(429, Retry_After="3600")
    with pytest.raises(HostBusy, match="asks to wait for 1 h 00 min"):
        fetch()
    assert control.waits == []


def test_a_busy_host_that_recovers(site, fetch, tmp_path):
    pages = [says(503), says(429, Retry_After="1"), whole(DATA)]
    site.pages["/f"] = lambda request, seen: pages.pop(0)(request, seen)
    fetch()
    assert (tmp_path / NAME).read_bytes() == DATA


def test_retry_after_as_a_date():
    assert 50 < (retry_after(formatdate(time.time() + 60)) or 0) < 61
    assert retry_after(formatdate(time.time() - 60)) == 0
    assert retry_after("-5") is None
    assert retry_after("9" * 400) == 7 * 86_400


def test_a_host_that_is_not_there(client, control, tmp_path):
    file = PlannedFile(url="http://127.0.0.1:1/f", path=NAME)
    with pytest.raises(LostConnection, match=r"127\.0\.0\.1 cannot be reached"):
        Fetch(client, file, tmp_path / NAME, control, lambda *_: None).run()
    assert [path.name for path in tmp_path.iterdir()] == []


def test_offline_is_offline(monkeypatch):
    monkeypatch.setenv("EMULSION_OFFLINE", "1")
    with pytest.raises(DownloadError, match="EMULSION_OFFLINE is set"):
        Client()


EVIL = {
    "../x.safetensors": "x.safetensors",
    "..\\..\\x.safetensors": "x.safetensors",
    "C:\\x.safetensors": "x.safetensors",
    "/etc/x.safetensors": "x.safetensors",
    "\\\\server\\share\\x.safetensors": "x.safetensors",
    "con.safetensors": "_con.safetensors",
    "a\x00b\x1b[2J.safetensors": "a_b_[2J.safetensors",
    "x.safetensors ": "x.safetensors",
    "\u202exfdp.safetensors": "xfdp.safetensors",
    "~x.safetensors": "x.safetensors",
    ".hidden.safetensors": "hidden.safetensors",
}


@pytest.mark.parametrize("evil", EVIL)
def test_n5_a_name_is_one_safe_part(evil):
    assert safe_name(evil) == EVIL[evil]


@pytest.mark.parametrize(
    "text", ["", ".", "..", "/", "\\", "...", "x" * 300 + ".safetensors", "é" * 300 + ".gguf", "\ud800"]
)
def test_n5_whatever_it_is_called_it_is_a_name(text, tmp_path):
    name = safe_name(text)
    assert name not in ("", ".", "..")
    assert not set(name) & set("/\\:\x00")
    assert len(name.encode()) <= 160
    assert name.endswith(text[-12:] if len(text) > 200 and text.endswith(".safetensors") else "")
    (tmp_path / name).write_bytes(b"")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ('attachment; filename="../../x.safetensors"', "x.safetensors"),
        ("attachment; filename*=UTF-8''%2e%2e%2fx.safetensors", "x.safetensors"),
        ("attachment; filename=x.safetensors", "x.safetensors"),
        ('attachment; filename="' + "x" * 300 + '.safetensors"', "x" * 137 + ".safetensors"),
        ("attachment; filename*=UTF-8''%E7%94%BB.safetensors", "画.safetensors"),
        ("attachment", "url.safetensors"),
        (";;;=\"", "url.safetensors"),
        ("", "url.safetensors"),
    ],
)  # fmt: skip
def test_n5_names_in_headers(header, name):
    assert offered_name(header, "https://h/a/url.safetensors?x=1") == name


def test_n5_the_server_names_a_way_out(site, client, control, tmp_path):
    inside = tmp_path / "models"
    site.pages["/get"] = whole(DATA, Content_Disposition='attachment; filename="../../../out.safetensors"')
    plan = look(client, parse(site.url("/get"), Hosts()), inside, control)
    assert download(client, plan, control, lambda *_: None) == inside / "out.safetensors"
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


@pytest.mark.parametrize(
    "path", ["../x.json", "a/../../x.json", "/etc/x.json", "a\\..\\x.json", "", "nul/x.json", "a/ .json"]
)
def test_n5_paths_inside_a_repository(path):
    with pytest.raises(DownloadError, match="not safe"):
        inner_path(path)


def test_n5_good_paths_stay():
    for path in (
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "tokenizer_2/special_tokens_map.json",
        "model_index.json",
    ):
        assert inner_path(path) == path


@pytest.mark.parametrize("name", ["slip.zip", "x.7z", "x.tar.gz", "x.rar"])
def test_n6_an_archive_is_refused_by_its_name(site, client, control, tmp_path, name):
    site.pages[f"/{name}"] = whole(zipped())
    with pytest.raises(DownloadError, match="does not unpack archives"):
        look(client, parse(site.url(f"/{name}"), Hosts()), tmp_path, control)
    assert [each.method for each in site.seen] == ["HEAD"]


@pytest.mark.parametrize("name", ["x.ckpt", "x.pt", "x.bin", "x.pth", "x.pkl", "x.exe", "x.py"])
def test_what_could_run_code_is_refused(site, client, control, tmp_path, name):
    site.pages["/f"] = whole(b"x", Content_Disposition=f"attachment; filename={name}")
    with pytest.raises(DownloadError, match=r"run code|no model file"):
        look(client, parse(site.url("/f"), Hosts()), tmp_path, control)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/f.safetensors?token=abc&type=Model", "https://h/f.safetensors?type=Model"),
        ("https://h/f?X-Amz-Signature=a&X-Amz-Credential=b", "https://h/f"),
        ("https://user:pw@h/f", "https://h/f"),
        ("https://h/f?a=1", "https://h/f?a=1"),
    ],
)
def test_addresses_are_shown_without_secrets(url, shown):
    assert without_secrets(url) == shown
