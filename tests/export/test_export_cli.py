"""The command line: reports, and one sentence with exit code 1 for what a person can change."""

import subprocess
import sys

import pytest
import torch

from stylewire.manifest import Manifest
from stylewire_export.checkpoints.config import DcganConfig
from stylewire_export.networks.dcgan import Dcgan

COMMAND = [sys.executable, "-W", "error", "-c", "from stylewire_export.cli import main; main()"]


def run(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], check=False, capture_output=True, text=True)


def test_model_and_verify_report_what_they_measured(tiny_checkpoints, tmp_path):
    """An export prints its files, errors and notes; a later verification prints the same table."""
    generator, encoder = tiny_checkpoints
    exported = run(
        "model",
        "--generator",
        generator,
        "--encoder",
        encoder,
        "--name",
        "tiny",
        "--out",
        tmp_path,
        "--formats",
        "onnx",
    )
    verified = run("verify", tmp_path / "tiny")

    assert (0, "", 0, "") == (exported.returncode, exported.stderr, verified.returncode, verified.stderr)
    assert "stylegan2-skip, 32 px, 8 rows" in exported.stdout
    for name in ("mapping.onnx", "synthesis.onnx", "encoder.onnx"):
        assert name in exported.stdout
        assert name in verified.stdout


def test_blend_reports_like_an_export(tiny_checkpoints, tmp_path):
    """Two generators become one model; a rule that cannot be is one sentence with exit code 1."""
    command = ["blend", tiny_checkpoints[0], tiny_checkpoints[0], "--out", tmp_path, "--formats", "onnx"]
    done = run(*command, "--name", "blend", "--resolution", "8", "--level", "1")
    refused = run(*command, "--name", "other", "--resolution", "32")

    assert (0, "") == (done.returncode, done.stderr)
    assert "stylegan2-skip, 32 px, 8 rows" in done.stdout
    assert (1, 1) == (refused.returncode, refused.stderr.count("\n"))
    assert "use at most 16" in refused.stderr


def test_generators_without_styles_report_like_an_export(tmp_path):
    """A DCGAN with named labels becomes a model, its ONNX file can be imported again, and a misfit is one sentence."""
    config = DcganConfig(input_dim=6, widths=(4, 3), biased=(False, False))
    torch.save(Dcgan(config).eval().state_dict(), tmp_path / "network.pt")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    names = ["--z-dim", "4", "--label-names", f"@{tmp_path / 'names.txt'}", "--out", tmp_path]
    done = run("model", "--generator", tmp_path / "network.pt", "--name", "dcgan", *names)
    imported = run("import-onnx", tmp_path / "dcgan" / "generator.onnx", "--name", "again", *names)
    refused = run("import-onnx", tmp_path / "network.pt", "--name", "other", "--out", tmp_path)

    assert (0, "", 0, "") == (done.returncode, done.stderr, imported.returncode, imported.stderr)
    assert "dcgan, 8 px, no styles" in done.stdout
    assert "onnx, 8 px, no styles" in imported.stdout
    assert ("cat", "dog") == Manifest.read(tmp_path / "again").label_names
    assert (1, 1) == (refused.returncode, refused.stderr.count("\n"))
    assert "network.pt: not an ONNX model" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--generator", "{folder}/absent.pkl"], "absent.pkl"),
        (["--generator", "{folder}/text.pkl"], "text.pkl"),
        (["--generator", "{generator}", "--encoder", "{generator}"], "without an encoder"),
        (["--generator", "{generator}", "--formats", "tflite"], "unknown formats"),
    ],
    ids=["absent file", "no checkpoint", "no encoder", "unknown format"],
)
def test_failures_are_one_sentence_and_leave_nothing(tiny_checkpoints, tmp_path, arguments, words):
    """What a person can change is said in one line, without a traceback, and nothing is created."""
    (tmp_path / "text.pkl").write_text("hello")
    filled = [argument.format(folder=tmp_path, generator=tiny_checkpoints[0]) for argument in arguments]

    result = run("model", *filled, "--name", "tiny", "--out", tmp_path / "models")

    assert 1 == result.returncode
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert 1 == result.stderr.count("\n")
    assert not (tmp_path / "models").exists()


def test_verify_fails_on_a_damaged_model(tiny_checkpoints, tmp_path):
    """A changed file gives exit code 1 and its name."""
    run("model", "--generator", tiny_checkpoints[0], "--name", "tiny", "--out", tmp_path, "--formats", "onnx")
    with (tmp_path / "tiny" / "mapping.onnx").open("ab") as file:
        file.write(b"\0")

    result = run("verify", tmp_path / "tiny")

    assert 1 == result.returncode
    assert "mapping.onnx" in result.stderr
