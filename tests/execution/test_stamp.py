import sys

import pytest

from deepprep._version import __version__
from deepprep.execution.stamp import code_stamp, weights_stamp


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "some_package"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "inner" / "__init__.py").write_text("x = 1\n")
    (folder / "notes.txt").write_text("one")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.startswith("some_package")]:
        del sys.modules[name]


def stamp(*names):
    code_stamp.cache_clear()
    return code_stamp(*names)


def test_code_stamp_has_the_version_and_follows_the_source(package):
    before = stamp("some_package")
    assert before.startswith(f"{__version__}+")
    (package / "notes.txt").write_text("two")
    assert stamp("some_package") == before
    (package / "inner" / "__init__.py").write_text("x = 2\n")
    assert stamp("some_package") != before


def test_code_stamp_of_one_module_ignores_the_others(package):
    before = stamp("some_package.inner")
    (package / "__init__.py").write_text("y = 1\n")
    assert stamp("some_package.inner") == before


def test_code_stamp_covers_all_of_deepprep_by_default():
    assert stamp() != stamp("deepprep.execution")


def test_an_unknown_package_is_an_error():
    with pytest.raises(ModuleNotFoundError):
        stamp("deepprep.no_such_thing")


def test_weights_stamp_is_of_the_content(tmp_path):
    first, second = tmp_path / "a.bin", tmp_path / "b.bin"
    first.write_bytes(b"weights")
    second.write_bytes(b"weights")
    before = weights_stamp(first)
    assert before == weights_stamp(second)
    assert len(before) == 12
    first.write_bytes(b"other weights")
    assert weights_stamp(first) != before
