"""The prepared hostile files: each is read in a child process with little memory and time, and nothing may happen."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

MEMORY_BYTES = 3 * 2**30  # address space; torch alone takes about one
SECONDS = 20

# Imports once, then forks for every file, so that limits and crashes stay with that file.
CHILD = f"""
import json, os, resource, signal, sys
from pathlib import Path
from stylewire_export.checkpoints import read_generator
from stylewire_export.errors import CheckpointError

def read(path):
    try:
        checkpoint = read_generator(Path(path))
    except CheckpointError as err:
        return {{"refused": str(err)}}
    return {{"family": checkpoint.family, "resolution_px": checkpoint.config.resolution_px}}

for path in json.load(sys.stdin):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_AS, ({MEMORY_BYTES}, {MEMORY_BYTES}))
        signal.alarm({SECONDS})
        with os.fdopen(writer, "w") as file:
            json.dump(read(path), file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        text = file.read()
    status = os.waitpid(child, 0)[1]
    print(json.dumps(json.loads(text) if text and not status else {{"crashed": status}}), flush=True)
"""

REASONS = {
    "os_system_global.pkl": "names 'os.system'",
    "stack_global_os.pkl": "forbidden name 'os.system'",
    "inst_opcode.pkl": "names 'os.system'",
    "newobj_map_bytes.pkl": "forbidden name 'builtins.bytes'",
    "reduce_eval_in_args.pt": "forbidden name '__builtin__.eval'",
    "dotted_name_torch.pkl": "forbidden name 'torch.serialization.os.system'",
    "load_from_bytes_nested.pkl": "forbidden name 'posix.system'",
    "torch_utils_prefix.pkl": "forbidden name 'torch.utils.collect_env.run'",
    "numpy_runstring.pkl": "forbidden name 'numpy.testing._private.utils.runstring'",
    "persistent_id_payload.pt": "forbidden name 'posix.system'",
    "module_source.pkl": "has no parameters",
    "memo_bomb.pkl": "no supported checkpoint uses",
    "deep_nesting.pkl": "nests deeper than 200",
    "huge_tensor.pt": "9895604649984 elements",
    "offset_out_of_bounds.pt": "reaches element 243 of a storage of 144",
    "zip_path_traversal.pt": "unsafe name",
    "zip_bomb.pt": "compressed",
    "length_lie.pkl": "lies about a length",
    "truncated_zip.pt": "incomplete",
    "truncated_pickle.pkl": "incomplete",
    "nan_weights.pt": "tensor 'conv1.conv.weight' holds NaN",
    "unknown_family.pt": "unknown kind of checkpoint, which holds 'shared.weight'",
    "empty.pkl": "the file is empty",
    "text.pkl": "failed download",
}


@pytest.fixture(scope="session")
def index(golden):
    """The entry of each file in INDEX.json."""
    return {entry["file"]: entry for entry in json.loads((golden / "malicious" / "INDEX.json").read_text())}


@pytest.fixture(scope="session")
def results(golden, index):
    """The result of each file, after all were read."""
    for entry in index.values():
        assert entry["marker"] is None or not _marker(entry).exists(), "left behind by somebody else"
    paths = [str(golden / "malicious" / name) for name in index]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=SECONDS * 10,
    )
    return dict(zip(index, map(json.loads, done.stdout.splitlines()), strict=True))


def _marker(entry):
    return Path(tempfile.gettempdir()) / entry["marker"]


def test_index_lists_exactly_the_known_files(index):
    """Every prepared file has an expectation here, and the one that must load is there."""
    assert {*REASONS, "control_valid.pt"} == index.keys()


@pytest.mark.parametrize("name", REASONS)
def test_hostile_file_is_refused_for_its_reason(results, index, name):
    """No payload ran, nothing crashed or ran out, and the sentence names what is wrong."""
    marker = index[name]["marker"]

    assert marker is None or not _marker(index[name]).exists()
    assert REASONS[name] in results[name].get("refused", str(results[name]))
    assert results[name]["refused"].startswith(f"{name}: ")


def test_control_file_is_read(results):
    """A reader that refuses everything is no reader: the valid file loads."""
    assert {"family": "rosinality", "resolution_px": 8} == results["control_valid.pt"]
