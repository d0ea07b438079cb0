"""Where things lie, and what the program calls itself."""

from __future__ import annotations

import re
from pathlib import Path

from pipelines.library import folders
from pipelines.library.version import program

ALL = (folders.default_output_dir, folders.data_dir, folders.cache_dir, folders.config_dir)


def test_one_variable_puts_all_under_one_folder(home):
    assert {folder().parent for folder in ALL} == {home}
    assert len({folder() for folder in ALL}) == 4
    assert folders.models_dir().is_relative_to(folders.data_dir())
    assert not home.exists()


def test_without_it_the_systems_own_folders_hold(monkeypatch):
    monkeypatch.delenv(folders.HOME_VARIABLE)
    assert folders.default_output_dir().parts[-2:] == ("Emulsion", "outputs")
    assert all(folder().is_absolute() and "Emulsion" in str(folder()) for folder in ALL)


def test_a_relative_home_is_made_absolute(monkeypatch):
    monkeypatch.setenv(folders.HOME_VARIABLE, "portable")
    assert folders.cache_dir() == Path.cwd() / "portable" / "cache"


def test_program_names_its_version():
    assert re.fullmatch(r"Emulsion \d+\.\d+\.\d+.*", program())
