"""What deploy/Dockerfile and its locks say, without building anything; test_image.py starts what was built."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from stylewire.health import Exit, main
from stylewire.server.config.settings import Settings

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
LOCKS = ROOT / "deploy" / "lock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = {"cpu": ["server", "cpu", "openvino", "ncnn", "triton"], "gpu": ["server", "gpu"]}


class Instruction(NamedTuple):
    stage: str
    word: str
    rest: str


def instructions() -> list[Instruction]:
    lines = [line for line in DOCKERFILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found, stage = [], ""
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            stage = rest.partition(" AS ")[2] if word == "FROM" else stage
            found.append(Instruction(stage, word, rest.strip()))
    return found


def rests(word, stage=None) -> list[str]:
    return [each.rest for each in instructions() if each.word == word and stage in (None, each.stage)]


def variables(stage) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="?([^"\s]*)"?', " ".join(rests("ENV", stage))))


def lock(name) -> dict[str, Version]:
    """Names and versions of a lock."""
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    return {name: Version(version) for name, version in re.findall(r"^([a-z0-9-]+)==(\S+)", text, re.MULTILINE)}


def wanted(target) -> list[Requirement]:
    """What pyproject.toml asks for in an image."""
    extras = PROJECT["project"]["optional-dependencies"]
    return [
        Requirement(line) for line in sum((extras[name] for name in EXTRAS[target]), PROJECT["project"]["dependencies"])
    ]


def test_dockerfile_is_clean():
    """The linter hadolint has nothing to say, and nothing tells it to be quiet."""
    done = subprocess.run(
        [Path(sys.executable).parent / "hadolint", DOCKERFILE], capture_output=True, text=True, check=False
    )

    assert (0, "") == (done.returncode, done.stdout)
    assert "hadolint ignore" not in DOCKERFILE.read_text(encoding="utf-8")


def test_dockerfile_has_the_targets():
    """The targets are cpu, also without --target, and gpu; both are the same but for packages and variables."""
    stages = rests("FROM")

    assert "runtime AS cpu" == stages[-1]
    assert "runtime AS gpu" in stages


def test_every_stage_stands_on_the_base():
    """Nothing comes from an image other than BASE, whose tag names Python's version and the distribution."""
    names = {rest.partition(" AS ")[2] for rest in rests("FROM")}
    parents = {rest.partition(" AS ")[0] for rest in rests("FROM")} | set(
        re.findall(r"--from=(\S+)", " ".join(rests("COPY")))
    )

    assert {"${BASE}"} == parents - names
    assert "BASE=python:3.11-slim-bookworm" == rests("ARG")[0]


@pytest.mark.parametrize("target", EXTRAS)
def test_image_has_no_tools(target):
    """Of the stages with pip and hatchling, an image takes only folders of installed packages."""
    copied = [rest for stage in (target, "runtime") for rest in rests("COPY", stage)]

    assert [
        f"--from=packages-{target} /opt/stylewire /opt/stylewire",
        "--from=application /application /opt/stylewire",
    ] == copied
    assert not any(
        "install " in rest.replace("install --directory", "") for rest in rests("RUN", "runtime") + rests("RUN", target)
    )


def test_image_runs_as_a_number():
    """The user is a number other than root's, for Kubernetes cannot tell from a name that it is not root."""
    assert ["65532:65532"] == rests("USER")


def test_signals_reach_the_server():
    """Entry point and health check are no shell's, and the signal to stop is the one that drains."""
    commands = [json.loads(rest[rest.index("[") :]) for rest in rests("ENTRYPOINT") + rests("HEALTHCHECK")]

    assert [["stylewire", "serve"], ["stylewire-health", "--timeout", "2"]] == commands
    assert ["SIGTERM"] == rests("STOPSIGNAL")


def test_commands_of_the_image_exist():
    """Entry point and health check are scripts of the package, and the check's flags are flags."""
    command = json.loads(rests("HEALTHCHECK")[0].partition("CMD ")[2])

    assert {"stylewire", "stylewire-health"} <= set(PROJECT["project"]["scripts"])
    assert Exit.BAD_ARGUMENTS != main([*command[1:], "--address", "127.0.0.1:1"])


@pytest.mark.parametrize("stage", ["runtime", "gpu"])
def test_variables_of_the_image_are_settings(stage, monkeypatch):
    """A STYLEWIRE variable that the image sets is a setting, and its value is accepted."""
    given = {name: value for name, value in variables(stage).items() if name.startswith("STYLEWIRE_")}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings.load([])

    assert given
    assert given == {name: getattr(settings, name.removeprefix("STYLEWIRE_").lower()) for name in given}


def test_exposed_ports_are_the_settings_defaults():
    """The image names the ports that the server takes when nobody says otherwise."""
    defaults = Settings()

    assert [f"{defaults.port} {defaults.metrics_port}"] == rests("EXPOSE")


def test_labels_are_those_of_the_image_spec():
    """Title, version, revision and the like are where tools look for them, and the version is the package's."""
    keys = re.findall(r"org\.opencontainers\.image\.([\w.]+)=", " ".join(rests("LABEL")))

    assert ["title", "description", "licenses", "version", "revision", "created", "base.name"] == keys
    assert f"VERSION={PROJECT['project']['version']}" in rests("ARG", "runtime")
    assert PROJECT["project"]["description"] in " ".join(rests("LABEL"))


def test_image_keeps_no_secret():
    """Secrets are mounted while a step runs; no variable or argument carries one into the history."""
    names = re.findall(r"(\w+)=", " ".join(rests("ARG") + rests("ENV")))

    assert [] == [name for name in names if re.search("TOKEN|SECRET|PASSWORD|CREDENTIAL|INDEX", name)]
    assert not any(re.search(r"index-url|trusted-host|\.netrc", rest) for rest in rests("RUN"))


def test_copied_files_exist_and_are_sent():
    """Every file copied from the repository is there, and .dockerignore lets it through and little else."""
    copied = {word for rest in rests("COPY") if "--from" not in rest for word in rest.split()[:-1]}
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in ignore if line.startswith("!")}

    assert set() == {path for path in copied if not (ROOT / path).exists()}
    assert {path if not path.startswith("deploy/lock/") else "deploy/lock" for path in copied} == sent
    assert "*" == next(line for line in ignore if not line.startswith("#"))


@pytest.mark.parametrize("target", EXTRAS)
def test_lock_has_what_the_project_asks_for(target):
    """Every requirement of the image's extras is pinned, within its range; `make lock` mends it."""
    pinned = lock(target)

    assert [] == [
        str(each)
        for each in wanted(target)
        if pinned.get(canonicalize_name(each.name), Version("0")) not in each.specifier
    ]


@pytest.mark.parametrize("name", ["build", *EXTRAS])
def test_lock_agrees_with_what_is_tested(name):
    """Whatever the tests run with is in the images in the same version; `make lock` mends it."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonicalize_name(n): Version(v) for n, _, v in (line.partition("==") for line in lines) if v}

    assert {} == {n: v for n, v in lock(name).items() if tested.get(n, v) != v}


@pytest.mark.parametrize("name", ["build", *EXTRAS])
def test_lock_has_hashes(name):
    """Every package is pinned by hashes, and no line names where from."""
    text = (LOCKS / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^[a-z].*?(?=^[a-z]|\Z)", text, re.MULTILINE | re.DOTALL)

    assert len(lock(name)) == len(entries)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert not re.search("https?://|file:|index-url", text)


def test_locks_have_one_runtime_each():
    """One onnxruntime an image, and no torch in either: two gigabytes that nothing there needs."""
    cpu, gpu = lock("cpu"), lock("gpu")

    assert ({"onnxruntime"}, {"onnxruntime-gpu"}) == tuple(
        {n for n in each if n.startswith("onnxruntime")} for each in (cpu, gpu)
    )
    assert set() == {"torch", "triton"} & {*cpu, *gpu}


def test_stated_cuda_is_what_onnxruntime_asks_for():
    """The driver that the image demands runs the CUDA of onnxruntime-gpu's metadata, as do the wheels."""
    cuda, pinned = json.loads((LOCKS / "cuda.json").read_text(encoding="utf-8")), lock("gpu")
    needs = [Requirement(line) for line in cuda["requires"]]
    (runtime,) = (each for each in needs if each.name.startswith("nvidia-cuda-runtime"))

    assert pinned["onnxruntime-gpu"] == Version(cuda["version"]), "make lock"
    assert f"cuda>={str(runtime.specifier).removeprefix('~=')}" == variables("gpu")["NVIDIA_REQUIRE_CUDA"]
    assert [] == [str(each) for each in needs if pinned.get(each.name, Version("0")) not in each.specifier]
