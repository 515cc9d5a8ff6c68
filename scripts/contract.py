"""``python -m scripts.contract``: lint the proto, and compare it with its contract.

``protos/contract.json`` is the last accepted descriptor of ``authsvc.v1``. buf reports each change
that would break a client of it. ``--accept`` writes it anew; before a first release any change may
be accepted, afterwards only one that breaks no client.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from scripts import npm
from scripts.install import explained

PROTOS = Path(__file__).parents[1] / "protos"
CONTRACT = "contract.json"
_PUBLIC = "authsvc/v1"


def describe(protos: Path, descriptor: Path) -> None:
    """Write the descriptor set of all protos, with comments and imports.

    Raises:
        subprocess.CalledProcessError: protoc rejects a proto; it has printed why.
    """
    names = [str(path.relative_to(protos)) for path in sorted(protos.glob("authsvc/**/*.proto"))]
    includes = ["-I", str(protos), "-I", sysconfig.get_path("purelib")]
    options = ["--include_imports", "--include_source_info", f"--descriptor_set_out={descriptor}"]
    command = [sys.executable, "-m", "grpc_tools.protoc", *includes, *options, *names]
    subprocess.run(command, check=True, cwd=protos)  # noqa: S603 - the locked protoc


def buf(*arguments: str, protos: Path) -> None:
    """Run buf in the folder of the protos.

    Raises:
        subprocess.CalledProcessError: it found something, and has printed what and where.
    """
    program = PROTOS / "node_modules" / "@bufbuild" / "buf" / "bin" / "buf"
    subprocess.run([str(npm.NODE), str(program), *arguments], check=True, cwd=protos)  # noqa: S603 - the locked buf


def check(protos: Path) -> None:
    """Lint everything, and compare the public package with its contract.

    Raises:
        subprocess.CalledProcessError: a finding, which has been printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        descriptor = Path(folder) / "protos.binpb"
        describe(protos, descriptor)
        buf("lint", str(descriptor), "--config", "buf.yaml", "--path", "authsvc", protos=protos)
        comparison = ("breaking", str(descriptor), "--against", CONTRACT, "--config", "buf.yaml")
        buf(*comparison, "--path", _PUBLIC, protos=protos)


def accept(protos: Path) -> None:
    """Write the contract anew from the protos.

    Raises:
        subprocess.CalledProcessError: protoc or buf failed, and has printed why.
    """
    with tempfile.TemporaryDirectory() as folder:
        descriptor, image = Path(folder) / "protos.binpb", Path(folder) / "image.json"
        describe(protos, descriptor)
        selection = ("--path", _PUBLIC, "--exclude-source-info")
        buf("build", str(descriptor), *selection, "--output", str(image), protos=protos)
        content = json.loads(image.read_text(encoding="utf-8"))
    (protos / CONTRACT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Check, or accept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accept", action="store_true", help="write protos/contract.json anew")
    arguments = parser.parse_args()
    with explained():
        npm.install(PROTOS)
    try:
        (accept if arguments.accept else check)(PROTOS)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
    print("The contract is written." if arguments.accept else "The proto keeps its contract.")


if __name__ == "__main__":
    main()
