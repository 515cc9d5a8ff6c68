"""The protos for clients in other languages: in the archive and in the wheel, complete."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import grpc_tools  # type: ignore[import-untyped] # it has no stubs
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from authsvc import __version__
from scripts import release
from tests.support.bounds import TIMEOUT_SECONDS
from tests.support.clock import START

ROOT = Path(__file__).parents[2]
AUTH = "authsvc/v1/auth.proto"
IMPORTED = {f"google/protobuf/{it}.proto" for it in ("any", "duration", "empty", "timestamp")} | {
    f"google/rpc/{it}.proto" for it in ("error_details", "status")
}


def protos(folder: Path) -> set[str]:
    """The protos in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*.proto")}


def compiled(folder: Path, descriptors: Path) -> set[str]:
    """What protoc makes of a folder, which it looks nowhere beside: the files, imports included.

    ``python -m grpc_tools.protoc`` would look into its own folder, too.
    """
    options = ["-I", str(folder), "--include_imports", f"--descriptor_set_out={descriptors}"]
    errors = protoc.main(["protoc", *options, AUTH, "google/rpc/error_details.proto"])
    assert errors == 0
    return {it.name for it in FileDescriptorSet.FromString(descriptors.read_bytes()).file}


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """The archive of a release, unpacked."""
    archive = release.archive_protos(ROOT, tmp_path)
    assert archive.name == f"authsvc-protos-{__version__}.tar.gz"
    shutil.unpack_archive(archive, tmp_path, filter="data")
    return tmp_path / f"authsvc-protos-{__version__}"


def test_protoc_compiles_the_archive_alone(unpacked: Path, tmp_path: Path) -> None:
    assert compiled(unpacked, tmp_path / "set") == {AUTH, *IMPORTED} == protos(unpacked)
    assert (unpacked / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_archives_of_the_same_files_are_equal_whenever_they_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = release.archive_protos(ROOT, tmp_path).read_bytes()
    monkeypatch.setattr(time, "time", lambda: START)
    assert release.archive_protos(ROOT, tmp_path).read_bytes() == earlier


def test_the_wheel_has_the_same_in_a_documented_place(unpacked: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    shutil.unpack_archive(wheel, installed, "zip")

    place = subprocess.run(
        [sys.executable, "-c", "import authsvc; print(authsvc.__path__[0] + '/protos')"],
        cwd=installed,  # found first
        check=True,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
    ).stdout.strip()

    assert Path(place) == installed / "authsvc" / "protos"
    assert protos(Path(place)) == protos(unpacked)
    for name in protos(unpacked):
        assert (Path(place) / name).read_bytes() == (unpacked / name).read_bytes()


@pytest.mark.parametrize("name", sorted(IMPORTED))
def test_what_is_imported_is_as_its_package_has_it(name: str) -> None:
    """``make protos`` copies them."""
    wells = (Path(grpc_tools.__path__[0]) / "_proto", Path(sysconfig.get_path("purelib")))
    (origin,) = (well / name for well in wells if (well / name).is_file())
    assert (ROOT / "protos" / name).read_bytes() == origin.read_bytes()
