"""Packages that only some users need: a missing one is named, with what installs it."""

import sys

import pytest

from hansa._extras import require


def test_an_installed_one_is_given():
    assert require("json.decoder", "plots", "it").JSONDecoder


def test_a_missing_one_is_named():
    with pytest.raises(ModuleNotFoundError) as caught:
        require("not_there.part", "plots", "it")
    assert str(caught.value) == "it needs not_there, which is not installed: pip install 'hansa[plots]'"
    assert caught.value.name == "not_there"


def test_what_one_needs_itself_is_named_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "hansa_needs_more.py").write_text("import not_there_either")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "hansa_needs_more", raising=False)
    with pytest.raises(ModuleNotFoundError, match="No module named 'not_there_either'"):
        require("hansa_needs_more", "plots", "it")
