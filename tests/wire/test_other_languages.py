"""Clients that are not Python: the example in TypeScript, and the template for Go, Java and C#."""

import hashlib
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from stylewire import DrainingError, InvalidFieldError, OverloadedError, Violation

PROJECT = Path(__file__).parent.parent.parent
EXAMPLE = Path("docs/clients/typescript")
BUF = Path(sys.executable).parent / "buf"


def run(*command, cwd, **options):
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, **options)


def same(folder, digest, stamp):
    return (folder / stamp).is_file() and (folder / stamp).read_text() == digest


def digest_of(*sources):
    """Of the files that are built from."""
    found = sorted(file for source in sources for file in (source.rglob("*") if source.is_dir() else [source]))
    content = b"".join(file.name.encode() + file.read_bytes() for file in found if file.is_file())
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def built():
    """The example, built in ``build/``; its packages are fetched once, its code is made when something has changed."""
    for program in ("node", "npm"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not on the PATH; Debian has it, nodejs.org too")
    root = PROJECT / "build" / "typescript"
    folder, source = root / EXAMPLE, PROJECT / EXAMPLE
    shutil.copytree(PROJECT / "protos", root / "protos", dirs_exist_ok=True)
    shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", "build", "gen"))
    packages = digest_of(source / "package.json", source / "package-lock.json")
    if not same(folder, packages, "packages"):
        done = run("npm", "ci", "--no-audit", "--no-fund", cwd=folder)
        if done.returncode:
            pytest.skip(f"npm ci: {done.stderr.strip().splitlines()[-1]}")
        (folder / "packages").write_text(packages)
    code = packages + digest_of(source / "src", source / "protos", source / "buf.gen.yaml", PROJECT / "protos")
    if not same(folder, code, "code"):
        for command in ((BUF, "generate"), ("npx", "tsc")):
            done = run(*command, cwd=folder)
            assert 0 == done.returncode, done.stdout + done.stderr
        (folder / "code").write_text(code)
    return folder


def main(built, *arguments):
    return run("node", "build/main.js", *map(str, arguments), cwd=built)


def test_typescript_makes_a_picture(built, demo_server, tmp_path):
    """A seed becomes a PNG file, by the real server."""
    done = main(built, "generate", demo_server.address, 7, tmp_path / "seed7.png")

    assert (0, "") == (done.returncode, done.stderr)
    with PIL.Image.open(tmp_path / "seed7.png") as picture:
        assert ("PNG", (64, 64)) == (picture.format, picture.size)


def test_typescript_walks(built, server, tmp_path):
    """The frames of a stream become files, in order; one that is refused before the first frame is asked for again."""
    server.fail_next(OverloadedError("full", retry_after_seconds=0.1), DrainingError("draining"))
    done = main(built, "interpolate", server.address, 5, tmp_path)
    files = sorted(tmp_path.iterdir())

    assert (0, "") == (done.returncode, done.stderr)
    assert [f"frame{index:04d}.png" for index in range(5)] == [file.name for file in files]
    assert [0, 1, 2, 3, 4] == [PIL.Image.open(file).getpixel((0, 0))[0] for file in files]
    assert 3 == len(server.requests)


def test_typescript_tries_again(built, server, tmp_path):
    """A server that drains, and one that is full and says when to come back, cost a pause."""
    server.fail_next(DrainingError("draining"), OverloadedError("full", retry_after_seconds=0.1))
    done = main(built, "generate", server.address, 200, tmp_path / "a.png")

    assert (0, "") == (done.returncode, done.stderr)
    assert 3 == len(server.requests)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            InvalidFieldError.of([Violation("model", "is odd"), Violation("noise", "is loud")]),
            "INVALID_ARGUMENT INVALID_FIELD: model: is odd; noise: is loud\n  model: is odd\n  noise: is loud\n",
        ),
        (OverloadedError("full"), "RESOURCE_EXHAUSTED OVERLOADED: full\n"),
    ],
    ids=["wrong fields", "full, without a time"],
)
def test_typescript_tells_the_servers_error(built, server, tmp_path, error, told):
    """Reason and wrong fields are read from the details, and nothing is tried again."""
    server.fail_next(error)
    done = main(built, "generate", server.address, 1, tmp_path / "a.png")

    assert (1, told) == (done.returncode, done.stderr)
    assert 1 == len(server.requests)


STAND_IN = """#!{python}
import sys
from google.protobuf.compiler import plugin_pb2
request = plugin_pb2.CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
wanted = [each for each in request.proto_file if each.name in request.file_to_generate]
response = plugin_pb2.CodeGeneratorResponse(supported_features=1)
for each in wanted:
    options = each.options
    response.file.add(name=each.name + ".{name}", content=f"{{options.go_package}} {{options.java_package}}")
sys.stdout.buffer.write(response.SerializeToString())
"""
PLUGINS = ("go", "go-grpc", "java", "grpc-java", "csharp")


def test_template_asks_the_plugins_of_go_java_and_csharp(tmp_path, monkeypatch):
    """Buf takes the template and gives every proto, with package options, to the plugins; these are stand-ins."""
    programs = {f"protoc-gen-{name}": name for name in PLUGINS} | {"grpc_csharp_plugin": "grpc-csharp"}
    for program, name in programs.items():
        file = tmp_path / program
        file.write_text(STAND_IN.format(python=sys.executable, name=name))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    shutil.copytree(PROJECT / "protos", tmp_path / "protos")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    done = run(BUF, "generate", "--template", PROJECT / "docs/clients/buf.gen.yaml", cwd=tmp_path)
    made = {file.name: file.read_text() for file in (tmp_path / "build").rglob("types.proto.*")}

    assert 0 == done.returncode, done.stderr
    assert {f"types.proto.{name}" for name in programs.values()} == set(made)
    assert {"example.com/faces/gen/go/stylewire/v1;stylewirev1 com.example.faces.stylewire.v1"} == set(made.values())
