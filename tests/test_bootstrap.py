"""The installer's own decisions, with scripted pip and libraries; nothing is installed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from installer import bootstrap, environment, packages, qt_libraries

ROOT = Path(__file__).resolve().parent.parent
LOCK = "requirements.lock"


@pytest.mark.parametrize("version", [(3, 11), (3, 12, 4), (3, 13, 9)])
def test_fitting_python_is_taken(version):
    assert bootstrap.refusal(version) == ""


@pytest.mark.parametrize("version", [(2, 7, 18), (3, 10, 13), (3, 14, 0)])
def test_other_python_is_refused_in_one_line(version):
    text = bootstrap.refusal(version)
    assert f"this is {version[0]}.{version[1]}" in text
    assert "3.11 to 3.13" in text
    assert "\n" not in text


def test_old_python_can_read_the_file():
    """Names and syntax of Python 3.6, or the refusal would be a SyntaxError."""
    import ast

    source = (ROOT / "installer" / "bootstrap.py").read_text(encoding="utf-8")
    tree = ast.parse(source, feature_version=(3, 6))
    hints = [n for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in (*f.args.args, f)]
    notes = [n.returns if isinstance(n, ast.FunctionDef) else n.annotation for n in hints]
    assert all(isinstance(note, ast.Name) for note in notes)


def test_wrong_command_shows_the_usage(capsys):
    assert bootstrap.main(["launch"]) == 2
    assert "bootstrap.py run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "window"),
    [([], True), (["--theme", "dark"], True), (["generate"], False), (["doctor"], False)],
)
def test_sub_commands_need_no_window(arguments, window):
    assert bootstrap.needs_window(arguments) is window


@pytest.mark.parametrize(("cores", "processes"), [(None, "1"), (2, "2"), (64, "4")])
def test_the_tests_are_divided_among_the_cores_and_the_users_own_words_come_last(
    monkeypatch, cores, processes
):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    line = bootstrap.command_line("test", ["-n", "0", "tests/spec"], "python")
    assert line[:5] == ["python", "-m", "pytest", "-n", processes]
    assert line[-3:] == ["-n", "0", "tests/spec"]


def test_foreign_environments_are_shut_out_and_pip_settings_kept():
    environ = {"VIRTUAL_ENV": "x", "PYTHONPATH": "y", "PYTHONHOME": "z", "PIP_USER": "1", "PIP_TARGET": "t"}
    cleaned = environment.clean(environ | {"PIP_INDEX_URL": "i", "PIP_CERT": "c", "PATH": "p"})
    assert cleaned == {
        "PIP_INDEX_URL": "i", "PIP_CERT": "c", "PATH": "p", "PIP_USER": "0", "PYTHONNOUSERSITE": "1",
    }  # fmt: skip


class Pip:
    """Makes an environment of one file and records the locks that it installed."""

    fail: BaseException | None = None

    def __init__(self):
        self.created, self.installed = 0, []

    def create(self, venv):
        self.created += 1
        python = environment.python_of(venv)
        python.parent.mkdir(parents=True)
        python.write_text("")

    def install(self, python, lock):
        python.parent.parent.joinpath("half").write_text("")
        if self.fail:
            raise self.fail
        self.installed.append(lock.name)


@pytest.fixture
def project(tmp_path):
    (tmp_path / "installer").mkdir()
    for name in (LOCK, "requirements-test.lock"):
        (tmp_path / "installer" / name).write_text(f"# {name}\n")
    return tmp_path


def ensure(project, pip, lock=LOCK):
    return environment.ensure(project, lock, pip.create, pip.install)


def test_second_start_installs_nothing(project):
    pip = Pip()
    assert ensure(project, pip) == ensure(project, pip) == str(environment.python_of(project / ".venv"))
    assert (pip.created, pip.installed) == (1, [LOCK])


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), environment.SetupError("network"), OSError("disk")])
def test_interrupted_install_is_made_anew(project, failure):
    pip = Pip()
    pip.fail = failure
    with pytest.raises(type(failure)):
        ensure(project, pip)
    assert not environment.ready(project / ".venv", project / "installer" / LOCK)
    pip.fail = None
    half = project / ".venv" / "left over"
    half.write_text("")
    ensure(project, pip)
    assert not half.exists()
    assert pip.created == 2


def test_changed_lock_is_installed_into_the_same_environment(project):
    pip = Pip()
    ensure(project, pip)
    (project / "installer" / LOCK).write_text("# changed\n")
    ensure(project, pip)
    assert (pip.created, pip.installed) == (1, [LOCK, LOCK])


def test_interrupted_update_is_made_anew(project):
    pip = Pip()
    ensure(project, pip)
    (project / "installer" / LOCK).write_text("# changed\n")
    pip.fail = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        ensure(project, pip)
    pip.fail = None
    ensure(project, pip)
    assert pip.created == 2


def test_test_environment_also_runs_the_program(project):
    pip = Pip()
    ensure(project, pip, "requirements-test.lock")
    ensure(project, pip)
    assert pip.installed == ["requirements-test.lock"]


def test_line_ends_do_not_change_the_lock(project):
    lock = project / "installer" / LOCK
    before = environment.lock_hash(lock)
    lock.write_bytes(lock.read_bytes().replace(b"\n", b"\r\n"))
    assert environment.lock_hash(lock) == before


@pytest.mark.parametrize("text", ["", "{", "[]", '{"python": "3.11"}'])
def test_damaged_stamp_counts_as_unfinished(project, text):
    pip = Pip()
    ensure(project, pip)
    (project / ".venv" / environment.STAMP).write_text(text)
    assert not environment.ready(project / ".venv", project / "installer" / LOCK)


@pytest.mark.skipif(os.name != "posix", reason="a link to the Python is made on POSIX only")
def test_other_version_behind_the_same_name_is_noticed(project):
    pip = Pip()
    ensure(project, pip)
    python = environment.python_of(project / ".venv")
    python.unlink()
    python.symlink_to(sys.executable)
    stamp = project / ".venv" / environment.STAMP
    assert environment.read_stamp(project / ".venv")
    stamp.write_text(json.dumps(json.loads(stamp.read_text()) | {"python": "3.8"}))
    assert environment.read_stamp(project / ".venv") is None


def test_two_starts_at_once_build_one_after_the_other(project):
    """The second process finds the lock taken, says so, and then finds everything done."""
    script = (
        "import sys; from installer import environment\n"
        "def create(venv): raise SystemExit('made twice')\n"
        "environment.ensure(sys.argv[1], 'requirements.lock', create, create)\n"
    )
    pip = Pip()
    with environment._one_at_a_time(project / ".venv.lock"):
        second = subprocess.Popen(
            [sys.executable, "-c", script, str(project)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert second.stdout is not None
        assert "Another start" in second.stdout.readline()
        environment._make(project / ".venv", project / "installer" / LOCK, pip.create, pip.install)
    assert second.communicate(timeout=30)[0] == ""
    assert second.returncode == 0


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("WARNING: NewConnectionError(...)\nERROR: No matching distribution found for x", "network"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "full"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "pip cache purge"),
        ("SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))", "certificate"),
        ("ERROR: No matching distribution found for torch==2.10.0", "torch==2.10.0"),
        ("ERROR: something new", "something new"),
    ],
)
def test_failures_of_pip_say_what_to_do(line, words):
    text = packages.explain(line.splitlines())
    assert words in text
    assert "start again" in text.lower() or "64-bit" in text


def test_only_big_downloads_are_told():
    assert "torch 2.10.0 (915.5 MB)" in packages.told(
        "  Downloading torch-2.10.0-3-cp311-cp311-manylinux_2_28_x86_64.whl (915.5 MB)"
    )
    assert packages.told("  Downloading idna-3.20-py3-none-any.whl (70 kB)") == ""
    assert packages.told("Collecting torch==2.10.0") == ""


@pytest.mark.parametrize(
    ("release", "tool", "command"),
    [
        ({"ID": "debian"}, "apt", "apt-get install -y libegl1"),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "apt", "apt-get install -y libegl1"),
        ({"ID": "fedora"}, "dnf", "dnf install -y 'libEGL.so.1()(64bit)'"),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "dnf", "dnf install -y 'libEGL.so.1()(64bit)'"),
        ({"ID": "arch"}, "pacman", "pacman -S --needed --noconfirm libglvnd"),
        ({"ID": "opensuse-tumbleweed"}, "zypper", "zypper install -y 'libEGL.so.1()(64bit)'"),
        ({"ID": "unheard-of"}, None, "libEGL.so.1 missing"),
        ({}, None, "libEGL.so.1 missing"),
    ],
)
def test_advice_fits_the_distribution(release, tool, command):
    assert qt_libraries.package_tool(release) == tool
    assert command in qt_libraries.advice(tool, [qt_libraries.ALWAYS[0]])


def test_a_package_is_named_once():
    assert qt_libraries.packages_for("pacman", qt_libraries.ALWAYS).count("libglvnd") == 1


@pytest.mark.parametrize(
    ("environ", "counts"),
    [({}, True), ({"QT_QPA_PLATFORM": "offscreen"}, False), ({"WAYLAND_DISPLAY": "wayland-0"}, False)],
)
def test_x11_libraries_are_asked_for_on_x11_only(environ, counts):
    lacking = qt_libraries.missing(environ, lambda soname: soname != "libxcb-cursor.so.0")
    assert [library.soname for library in lacking] == (["libxcb-cursor.so.0"] if counts else [])


def test_missing_libraries_without_root_end_in_one_command(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(qt_libraries, "install_as_root", lambda _: False)
    monkeypatch.setattr(qt_libraries, "os_release", lambda: {"ID": "debian"})
    with pytest.raises(environment.SetupError, match="sudo apt-get install -y libegl1"):
        qt_libraries.ensure({}, lambda soname: soname != "libEGL.so.1")


def test_missing_libraries_are_installed_as_root(monkeypatch):
    present, installed = set(), []

    def install(names):
        installed.extend(names)
        present.add("libEGL.so.1")
        return True

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(qt_libraries, "install_as_root", install)
    monkeypatch.setattr(qt_libraries, "os_release", lambda: {"ID": "debian"})
    qt_libraries.ensure({}, lambda soname: soname != "libEGL.so.1" or soname in present)
    assert installed == ["libegl1"]


def test_full_disk_is_told_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "disk_usage", lambda _: SimpleNamespace(free=packages.GB))
    with pytest.raises(environment.SetupError, match=r"1\.0 GB free.*Make room"):
        packages.create(tmp_path / ".venv")
    assert not list(tmp_path.iterdir())


def test_missing_venv_module_names_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * packages.GB))
    monkeypatch.setattr(packages.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(qt_libraries, "install_as_root", lambda _: False)
    with pytest.raises(environment.SetupError, match=r"apt-get install -y python3\.1\d-venv"):
        packages.create(tmp_path / ".venv")


def locked(name):
    lines = (ROOT / "installer" / name).read_text(encoding="utf-8").splitlines()
    return {line.removesuffix("\\").strip() for line in lines if line[:1].isalnum()}


def test_test_lock_holds_the_programs_lock():
    assert locked("requirements.lock") < locked("requirements-test.lock")


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-test.lock"])
def test_locks_name_no_index_and_no_local_build(name):
    lines = (ROOT / "installer" / name).read_text(encoding="utf-8").splitlines()
    body = [line for line in lines if not line.startswith("#")]
    assert not [line for line in body if line.startswith("-") or any(x in line for x in ("://", " @ ", "+"))]
    assert sum("--hash=sha256:" in line for line in body) >= len(locked(name))
