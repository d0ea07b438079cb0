"""What a person types, and the plan that comes of it."""

import shutil
from collections import namedtuple

import pytest

from pipelines.library.download.client import Client
from pipelines.library.download.errors import DownloadError, ManyFiles, NoRoom, TokenWanted
from pipelines.library.download.hosts import Hosts
from pipelines.library.download.look import Wishes, checked_sum, look
from pipelines.library.download.run import MARK, discard_plan, download
from pipelines.library.download.sources import CivitaiSource, HubSource, UrlSource, parse
from pipelines.library.index import scan
from pipelines.library.models import record_of
from pipelines.spec.downloads import DownloadState, DownloadStatus, duration_text, progress_text, size_text
from pipelines.spec.errors import Cancelled
from tests.desktop.conftest import make_model
from tests.library.download.site import as_json, cutting, safetensors, says, sha256, whole

pytestmark = pytest.mark.local_server
DATA = safetensors()
COMMIT = "0123456789abcdef" * 2 + "01234567"

TYPED = {
    "org/repo": HubSource("org/repo"),
    " org/repo ": HubSource("org/repo"),
    "org/repo/a.safetensors": HubSource("org/repo", "main", "a.safetensors"),
    "org/repo/unet/a.safetensors": HubSource("org/repo", "main", "unet/a.safetensors"),
    "hf:org/repo": HubSource("org/repo"),
    "hf:org/repo@v1.0": HubSource("org/repo", "v1.0"),
    "hf:org/repo@refs/pr/2:unet/a.gguf": HubSource("org/repo", "refs/pr/2", "unet/a.gguf"),
    "hf:org/repo:a.gguf": HubSource("org/repo", "main", "a.gguf"),
    "https://huggingface.co/org/repo": HubSource("org/repo"),
    "huggingface.co/org/repo": HubSource("org/repo"),
    "https://hf.co/org/repo/tree/v2": HubSource("org/repo", "v2"),
    "https://huggingface.co/org/repo/blob/main/unet/a.safetensors": HubSource("org/repo", "main", "unet/a.safetensors"),
    "https://huggingface.co/org/repo/resolve/refs%2Fpr%2F1/a.gguf?download=true": HubSource(
        "org/repo", "refs/pr/1", "a.gguf"
    ),
    "civitai:12345": CivitaiSource(12345),
    "Civitai:12345": CivitaiSource(12345),
    "urn:air:sdxl:lora:civitai:111@222": CivitaiSource(222),
    "https://civitai.com/models/7/name?modelVersionId=89": CivitaiSource(89, 7),
    "https://civitai.com/models/7": CivitaiSource(0, 7),
    "https://civitai.com/api/download/models/89?type=Model&token=secret": CivitaiSource(89),
    "https://example.org/a.safetensors#top": UrlSource("https://example.org/a.safetensors"),
}  # fmt: skip


@pytest.mark.parametrize("text", TYPED)
def test_what_is_typed(text):
    assert parse(text) == TYPED[text]


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "one", "a b/c", "../x/y", "org/../x", "org/repo/../../x.safetensors", "hf:org/repo@../x",
        "civitai:", "civitai:x",
        "file:///etc/passwd", "ftp://h/x.safetensors", "https://", "https://u:p@h/x", "http://[::1", "https://h/a b",
        "https://huggingface.co/datasets/a/b", "https://huggingface.co/org", "https://civitai.com/user/me",
        "https://huggingface.co/org/repo/tree/main/unet", "org/repo/unet", "https://h:0/x", "https://h\n/x",
    ],
)  # fmt: skip
def test_what_names_nothing(text):
    with pytest.raises(DownloadError) as caught:
        parse(text)
    assert caught.value.hint


def test_a_token_in_an_address_is_never_repeated():
    for text in (
        "https://u:CANARY@h/x",
        "nonsense?token=CANARY",
        "https://civitai.com/x?token=CANARY",
        "gopher://h/?token=CANARY",
    ):
        with pytest.raises(DownloadError) as caught:
            parse(text)
        assert "CANARY" not in str(caught.value)
    assert "CANARY" not in str(parse("https://h/x.gguf?token=CANARY"))


def hub_file(path, data, large=True):
    entry = {"type": "file", "path": path, "size": len(data), "oid": "0" * 40}
    return {**entry, "lfs": {"oid": sha256(data), "size": len(data), "pointerSize": 130}} if large else entry


def repository(site, files, repo="org/repo", **headers):
    """`files` by path; what ends in .safetensors is in the large-file store. In two pages."""
    tree = [hub_file(path, data, path.endswith(".safetensors")) for path, data in files.items()]
    tree.append({"type": "directory", "path": "unet", "oid": "0" * 40, "size": 0})
    half = len(tree) // 2
    address = f"/api/models/{repo}/tree/{COMMIT}"
    site.pages[f"/api/models/{repo}/revision/main"] = as_json({"sha": COMMIT})
    site.pages[address] = lambda request, seen: (
        as_json(tree[half:])(request, seen)
        if "cursor" in seen.path
        else as_json(tree[:half], Link=f'<{site.url(address)}?recursive=true&cursor=x>; rel="next"')(
            request, seen
        )
    )
    for path, data in files.items():
        site.pages[f"/{repo}/resolve/{COMMIT}/{path}"] = whole(data)


@pytest.fixture
def model(tmp_path):
    """The files of a diffusers folder, with what else such repositories hold."""
    made = make_model(tmp_path / "made" / "repo")
    files = {str(path.relative_to(made)): path.read_bytes() for path in made.rglob("*") if path.is_file()}
    files.pop("emulsion.json")
    shutil.rmtree(tmp_path / "made")
    unwanted = {
        "repo.safetensors": DATA, "unet/model.fp16.safetensors": DATA, "unet/diffusion_pytorch_model.bin": b"pickle",
        "README.md": b"# Read me", "code.py": b"import os", "safety_checker/model.safetensors": DATA,
        "flax/weights.msgpack": b"x", "unet/pytorch_model.bin.index.json": b"{}", ".gitattributes": b"", "x.ckpt": b"x",
    }  # fmt: skip
    return {**files, **unwanted}, set(files)


def test_a_whole_model(site, client, control, tmp_path, model):
    files, wanted = model
    repository(site, files)
    plan = look(client, parse("org/repo"), tmp_path, control)
    assert {file.path for file in plan.files} == wanted
    assert plan.target == tmp_path / "repo"
    assert plan.size == sum(len(files[path]) for path in wanted)
    assert all(file.sha256 for file in plan.files if file.path.endswith(".safetensors"))
    assert not list(tmp_path.iterdir())
    bodies = [each.path for each in site.seen if "/resolve/" in each.path]
    assert bodies == [f"/org/repo/resolve/{COMMIT}/model_index.json"], (
        "nothing else is sent before it is confirmed"
    )
    told = []
    assert download(client, plan, control, lambda *figures: told.append(figures)) == tmp_path / "repo"
    for path in wanted:
        assert (tmp_path / "repo" / path).read_bytes() == files[path]
    assert [path.name for path in tmp_path.iterdir()] == ["repo"]
    assert not (tmp_path / "repo" / MARK).exists()
    assert record_of(tmp_path / "repo").problem == ""
    assert told[-1][:2] == (plan.size, plan.size)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


def test_a_whole_model_in_half_precision(site, client, control, tmp_path, model):
    files, _ = model
    repository(site, files)
    plan = look(client, parse("org/repo"), tmp_path, control, Wishes(half=True))
    paths = [file.path for file in plan.files]
    assert "unet/model.fp16.safetensors" in paths
    assert "unet/model.safetensors" not in paths
    assert "vae/model.safetensors" in paths, "where there is no other"


def test_a_model_that_is_stopped_is_no_model_and_goes_on(site, client, control, tmp_path, model):
    files, _ = model
    repository(site, files)
    plan = look(client, parse("org/repo"), tmp_path, control)
    last = plan.files[-1]
    page = f"/org/repo/resolve/{COMMIT}/{last.path}"

    def stops(request, seen):
        control.stop()
        whole(files[last.path])(request, seen)

    site.pages[page] = stops
    with pytest.raises(Cancelled):
        download(client, plan, control, lambda *_: None)
    assert [path.name for path in tmp_path.iterdir()] == ["repo.part"]
    assert scan([tmp_path], database=tmp_path.parent / "index.sqlite") == ()
    site.pages[page] = whole(files[last.path])
    before = len(site.seen)
    again = type(control)()
    assert download(client, plan, again, lambda *_: None) == tmp_path / "repo"
    assert len(site.seen) - before == 1, "only what was missing"


def test_a_model_that_is_there_is_not_fetched_again(site, client, control, tmp_path, model):
    repository(site, model[0])
    plan = look(client, parse("org/repo"), tmp_path, control)
    download(client, plan, control, lambda *_: None)
    before = len(site.seen)
    assert download(client, plan, control, lambda *_: None) == tmp_path / "repo"
    assert len(site.seen) == before
    weights = tmp_path / "repo" / "unet" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert download(client, plan, control, lambda *_: None) == tmp_path / "repo (2)"


def test_what_an_unfinished_model_left_can_be_thrown_away(site, client, control, tmp_path, model):
    repository(site, model[0])
    plan = look(client, parse("org/repo"), tmp_path, control)
    site.pages[f"/org/repo/resolve/{COMMIT}/{plan.files[-1].path}"] = says(404)
    with pytest.raises(DownloadError, match="404"):
        download(client, plan, control, lambda *_: None)
    (tmp_path / "repo").mkdir()  # another's
    (tmp_path / "repo" / "mine.txt").write_text("mine")
    discard_plan(plan)
    assert [path.name for path in tmp_path.iterdir()] == ["repo"]
    discard_plan(plan)
    assert (tmp_path / "repo" / "mine.txt").read_text() == "mine"


def test_one_file_of_a_repository(site, client, control, tmp_path):
    repository(site, {"a.safetensors": DATA, "b/c.safetensors": DATA, "README.md": b"x"})
    plan = look(client, parse("org/repo/b/c.safetensors"), tmp_path, control)
    (file,) = plan.files
    assert (file.path, file.size, file.sha256) == ("c.safetensors", len(DATA), sha256(DATA))
    assert plan.source == "hf:org/repo:b/c.safetensors"
    assert download(client, plan, control, lambda *_: None) == tmp_path / "c.safetensors"
    assert (
        look(client, parse("org/repo"), tmp_path, control, Wishes(file="a.safetensors")).title
        == "org/repo/a.safetensors"
    )


def test_a_repository_with_several_files_asks_which(site, client, control, tmp_path):
    repository(site, {"a.safetensors": DATA, "b.gguf": DATA, "c.ckpt": b"x"})
    with pytest.raises(ManyFiles, match="is not one model") as caught:
        look(client, parse("org/repo"), tmp_path, control)
    assert caught.value.names == ("a.safetensors", "b.gguf")
    with pytest.raises(ManyFiles, match=r"has no file 'd\.safetensors'"):
        look(client, parse("org/repo/d.safetensors"), tmp_path, control)
    with pytest.raises(DownloadError, match="can run code"):
        look(client, parse("org/repo/c.ckpt"), tmp_path, control)


def test_a_repository_with_one_file_is_that_file(site, client, control, tmp_path):
    repository(site, {"lora.safetensors": DATA, "README.md": b"x"})
    assert look(client, parse("org/repo"), tmp_path, control).target == tmp_path / "lora.safetensors"


def test_a_controlnet_is_its_folder(site, client, control, tmp_path):
    files = {
        "config.json": b"{}",
        "diffusion_pytorch_model.safetensors": DATA,
        "diffusion_pytorch_model.fp16.safetensors": DATA,
    }
    repository(
        site,
        {**files, "diffusion_pytorch_model.bin": b"x", "images/a.png": b"x", "images/config.json": b"{}"},
    )
    plan = look(client, parse("org/repo"), tmp_path, control)
    assert [file.path for file in plan.files] == ["config.json", "diffusion_pytorch_model.safetensors"]


def test_a_repository_of_pickles(site, client, control, tmp_path):
    repository(site, {"a.ckpt": b"x"})
    with pytest.raises(DownloadError, match=r"holds no \.safetensors or \.gguf file"):
        look(client, parse("org/repo"), tmp_path, control)


def test_a_repository_with_a_way_out_is_refused(site, client, control, tmp_path):
    repository(site, {"model_index.json": b'{"unet": ["diffusers", "U"]}', "unet/../../x.safetensors": DATA})
    with pytest.raises(DownloadError, match="not safe"):
        look(client, parse("org/repo"), tmp_path, control)


def test_a_gated_file_wants_a_token_before_it_is_confirmed(site, client, control, tmp_path):
    """Its list is open to everybody."""
    repository(site, {"lora.safetensors": DATA})
    site.pages[f"/org/repo/resolve/{COMMIT}/lora.safetensors"] = says(403)
    with pytest.raises(TokenWanted):
        look(client, parse("org/repo"), tmp_path, control)


def test_what_another_host_says_to_a_look_counts_for_nothing(site, other_site, client, control, tmp_path):
    """Signed addresses are often for GET alone."""
    repository(site, {"lora.safetensors": DATA})
    other_site.pages["/cdn"] = lambda request, seen: request.say(403)
    site.pages[f"/org/repo/resolve/{COMMIT}/lora.safetensors"] = says(302, Location=other_site.url("/cdn"))
    assert look(client, parse("org/repo"), tmp_path, control).size == len(DATA)


def test_civitai_early_access_wants_a_token(site, client, hosts, control, tmp_path):
    version(site, base=hosts.civitai)
    site.pages["/api/download/models/89"] = says(307, Location="/login?reason=download-auth")
    with pytest.raises(TokenWanted) as caught:
        look(client, parse("civitai:89"), tmp_path, control)
    assert caught.value.host == "civitai"


def test_a_gated_repository_wants_a_token(site, client, control, tmp_path):
    site.pages["/api/models/org/repo/revision/main"] = says(401, b'{"error": "gated"}')
    with pytest.raises(TokenWanted):
        look(client, parse("org/repo"), tmp_path, control)


@pytest.mark.parametrize(
    "page", [says(200, b"<html>"), as_json([]), as_json({"sha": 5}), says(200, b"[" * 200_000)]
)
def test_senseless_answers_are_no_crash(site, client, control, tmp_path, page):
    site.pages["/api/models/org/repo/revision/main"] = page
    for commit in ("main", COMMIT):
        site.pages[f"/api/models/org/repo/tree/{commit}"] = as_json(
            [1, None, {"type": "file", "path": 3}, {"size": "x"}]
        )
    with pytest.raises(DownloadError):
        look(client, parse("org/repo"), tmp_path, control)


def test_the_next_page_is_asked_of_the_same_host_only(site, other_site, client, control, tmp_path):
    site.pages["/api/models/org/repo/revision/main"] = as_json({"sha": COMMIT})
    link = f'<{other_site.url("/more")}>; rel="next"'
    site.pages[f"/api/models/org/repo/tree/{COMMIT}"] = as_json([hub_file("a.gguf", DATA)], Link=link)
    look(client, parse("org/repo"), tmp_path, control)
    assert not other_site.seen


def version(site, *, base, files=None, **more):
    main = {
        "name": "my lora.safetensors", "sizeKB": len(DATA) / 1024, "primary": True, "type": "Model",
        "hashes": {"SHA256": sha256(DATA).upper()}, "downloadUrl": f"{base}/api/download/models/89",
    }  # fmt: skip
    data = {
        "id": 89,
        "name": "v2",
        "model": {"name": "My LoRA"},
        "files": [main] if files is None else files,
        **more,
    }
    site.pages["/api/v1/model-versions/89"] = as_json(data)
    site.pages["/api/download/models/89"] = whole(DATA)
    return main


def test_civitai(site, client, hosts, control, tmp_path):
    version(site, base=hosts.civitai)
    plan = look(client, parse("civitai:89"), tmp_path, control)
    (file,) = plan.files
    assert (plan.title, plan.source) == ("My LoRA v2", "civitai:89")
    assert (file.path, file.size, file.sha256) == ("my lora.safetensors", len(DATA), sha256(DATA))
    assert not [each for each in site.seen if "download" in each.path and each.method == "GET"]
    assert download(client, plan, control, lambda *_: None) == tmp_path / "my lora.safetensors"


def test_civitai_the_newest_version(site, client, hosts, control, tmp_path):
    version(site, base=hosts.civitai)
    site.pages["/api/v1/models/7"] = as_json({"modelVersions": [{"id": 89}, {"id": 88}]})
    assert look(client, parse("https://civitai.com/models/7"), tmp_path, control).source == "civitai:89"


def test_civitai_prefers_what_is_safe(site, client, hosts, control, tmp_path):
    base = hosts.civitai
    main = version(site, base=base)
    pickle = {**main, "name": "x.ckpt"}
    version(site, base=base, files=[pickle, {**main, "name": "b.safetensors", "primary": False}])
    assert look(client, parse("civitai:89"), tmp_path, control).files[0].path == "b.safetensors"
    version(site, base=base, files=[pickle])
    with pytest.raises(DownloadError, match="can run code"):
        look(client, parse("civitai:89"), tmp_path, control)
    version(site, base=base, files=[{**main, "name": "images.zip"}])
    with pytest.raises(DownloadError, match="archive"):
        look(client, parse("civitai:89"), tmp_path, control)
    with pytest.raises(ManyFiles, match="has no file"):
        look(client, parse("civitai:89"), tmp_path, control, Wishes(file="other.safetensors"))


def test_civitai_names_no_other_host(site, client, control, tmp_path):
    version(site, base="https://evil.example.org")
    with pytest.raises(DownloadError, match="names evil"):
        look(client, parse("civitai:89"), tmp_path, control)


@pytest.mark.parametrize("more", [{"files": []}, {"files": None}, {"files": [{"name": 3}]}, {"files": "x"}])
def test_civitai_without_files(site, client, hosts, control, tmp_path, more):
    version(site, base=hosts.civitai, **({"files": []} | more))
    site.pages["/api/v1/model-versions/89"] = as_json(more)
    with pytest.raises(DownloadError, match="has no files"):
        look(client, parse("civitai:89"), tmp_path, control)


def test_an_address(site, client, control, tmp_path):
    site.pages["/a.safetensors"] = whole(DATA)
    plan = look(client, parse(site.url("/a.safetensors"), Hosts()), tmp_path, control)
    assert (plan.title, plan.size) == ("a.safetensors", len(DATA))
    assert [each.method for each in site.seen] == ["HEAD"]
    assert "The connection is not encrypted." in plan.notes


def test_an_address_that_is_signed_for_get_alone(site, client, control, tmp_path):
    good = whole(DATA)
    site.pages["/a.safetensors"] = lambda r, seen: r.say(403) if seen.method == "HEAD" else good(r, seen)
    plan = look(client, parse(site.url("/a.safetensors"), Hosts()), tmp_path, control)
    assert plan.size == len(DATA)
    assert site.seen[1].range == "bytes=0-0"


def test_an_address_of_a_page(site, client, control, tmp_path):
    site.pages["/model"] = says(200, b"<html>", Content_Type="text/html")
    with pytest.raises(DownloadError, match="answers with a web page"):
        look(client, parse(site.url("/model"), Hosts()), tmp_path, control)
    site.pages["/model"] = says(200, b"xxx")
    with pytest.raises(DownloadError, match="does not say what the file is called"):
        look(client, parse(site.url("/model"), Hosts()), tmp_path, control)
    assert (
        look(client, parse(site.url("/model"), Hosts()), tmp_path, control, Wishes(file="a.gguf")).title
        == "a.gguf"
    )


def test_a_sum_that_is_known(site, client, control, tmp_path):
    site.pages["/a.safetensors"] = cutting(DATA, 50)
    plan = look(
        client,
        parse(site.url("/a.safetensors"), Hosts()),
        tmp_path,
        control,
        Wishes(sha256=sha256(DATA).upper()),
    )
    assert plan.files[0].sha256 == sha256(DATA)
    repository(site, {"lora.safetensors": DATA})
    with pytest.raises(DownloadError, match="by its host, not"):
        look(client, parse("org/repo"), tmp_path, control, Wishes(sha256="0" * 64))
    with pytest.raises(DownloadError, match="64 hexadecimal"):
        checked_sum("abc")


def test_too_little_room_is_told_with_figures(site, client, control, tmp_path, monkeypatch):
    site.pages["/a.safetensors"] = whole(DATA)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 1000))
    with pytest.raises(NoRoom, match=r"has 1 kB free; a\.safetensors needs 200 kB"):
        look(client, parse(site.url("/a.safetensors"), Hosts()), tmp_path / "not" / "there", control)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, len(DATA)))
    look(client, parse(site.url("/a.safetensors"), Hosts()), tmp_path / "not" / "there", control)


def test_a_stopped_look_asks_no_more(site, hosts, control, tmp_path):
    asked = Client(hosts)
    control.stop()
    with pytest.raises(Cancelled):
        look(asked, parse("org/repo"), tmp_path, control)
    assert not site.seen


def test_words():
    status = DownloadStatus(
        id=1,
        title="x",
        state=DownloadState.RUNNING,
        done_bytes=120_000_000,
        total_bytes=2_130_000_000,
        speed=8.4e6,
        eta_s=242,
    )
    assert progress_text(status) == "120 MB of 2.13 GB, 8.4 MB/s, 4 min 02 s left"
    assert [size_text(n) for n in (None, 0, 999, 1000, 6_938_040_682)] == [
        "size unknown",
        "0 bytes",
        "999 bytes",
        "1 kB",
        "6.94 GB",
    ]
    assert [duration_text(n) for n in (0.4, 59, 60, 3600, 86_400)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "1 h 00 min",
        "24 h 00 min",
    ]
