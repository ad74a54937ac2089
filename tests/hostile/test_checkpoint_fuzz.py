"""Random damage to valid checkpoints: the answer is a network or one sentence, never another exception."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stylewire_export.checkpoints import read_encoder, read_generator
from stylewire_export.checkpoints.containers.torch_legacy import claim_storage, read_nested_storage
from stylewire_export.checkpoints.pickles.placeholders import Budget
from stylewire_export.checkpoints.pickles.safe_globals import nvidia_globals, torch_globals
from stylewire_export.checkpoints.pickles.unpickler import read_pickle
from stylewire_export.errors import CheckpointError

FILES = {
    "zip": "malicious/control_valid.pt",
    "legacy": "ros32_legacy_container/model.pt",
    "nvidia": "ada16odd/network.pkl",
    "pSp": "psp_narrow64/model.pt",
}
STRUCTURE_BYTES = 20_000  # the pickle lies at the front of each file, the zip directory at its end


FRAGMENTS = [  # moves of real pickles; in random order they meet every check of the interpreter
    *(bytes([code]) for code in b"N\x88\x89}])\x8f(t\x85\x86\x87aesu\x90R\x81bQ\x93\x94"),
    *(b"q\x00", b"h\x00", b"q\x01", b"h\x01", b"K\x00", b"K\x01", b"J\xff\xff\xff\xff", b"G" + bytes(8)),
    *(b"C\x04abcd", b"C\x01b", b"X\x01\x00\x00\x00a", b"X\x06\x00\x00\x00latin1", b"X\x02\x00\x00\x00f4"),
    *(b"X\x01\x00\x00\x00<", b"X\x07\x00\x00\x00storage", b"X\x05\x00\x00\x00class", b"K\x03", b"K\x06"),
    *(b"ccollections\nOrderedDict\n", b"cnumpy\ndtype\n", b"cnumpy\nndarray\n", b"cargparse\nNamespace\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\nFloatStorage\n"),
    *(b"cnumpy.core.multiarray\nscalar\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"c_codecs\nencode\n"),
    *(b"ctorch.storage\n_load_from_bytes\n", b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"),
    *(b"cdnnlib.util\nEasyDict\n", b"cdnnlib.tflib.network\nNetwork\n", b"cbuiltins\nset\n", b"cos\nsystem\n"),
]


@pytest.fixture(scope="session")
def originals(golden):
    """Give the bytes of one valid file for each container; a function, so that reports stay short."""
    contents = {kind: (golden / name).read_bytes() for kind, name in FILES.items()}
    return lambda kind: bytearray(contents[kind])


@st.composite
def damages(draw):
    """A few edits: (position from the front or the end, bytes removed, bytes put there)."""
    position = st.integers(-STRUCTURE_BYTES, STRUCTURE_BYTES)
    edit = st.tuples(position, st.integers(0, 40), st.binary(max_size=40))
    flips = st.tuples(position, st.just(1), st.binary(min_size=1, max_size=1))
    return draw(st.lists(st.one_of(flips, flips, edit), min_size=1, max_size=4))


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damages(), kept=st.one_of(st.none(), st.floats(0, 1)))
def test_damaged_file_gives_a_network_or_a_sentence(originals, tmp_path, kind, damage, kept):
    """Flipped, inserted, removed and cut bytes never raise anything but CheckpointError."""
    content = originals(kind)
    for position, removed, inserted in damage:
        start = position % len(content)
        content[start : start + removed] = inserted
    if kept is not None:
        del content[int(len(content) * kept) :]
    path = tmp_path / "damaged"
    path.write_bytes(content)

    sentences = [_refusal(read, path) for read in (read_generator, read_encoder)]

    assert all("\n" not in sentence and len(sentence) < 1000 for sentence in sentences)


def _refusal(read, path):
    try:
        read(path)
    except CheckpointError as err:
        return str(err)
    return ""


@settings(max_examples=2000, deadline=None)
@given(moves=st.lists(st.sampled_from(FRAGMENTS), max_size=40), of_torch=st.booleans())
def test_random_moves_give_an_object_or_a_sentence(moves, of_torch):
    """Any order of legitimate opcodes and names ends in an object of ours or in CheckpointError."""
    budget, storages = Budget(copied_bytes=1000), {}
    allowed = (
        torch_globals(budget) if of_torch else nvidia_globals(budget, lambda data: read_nested_storage(data, budget))
    )

    def persistent_load(identity):
        return claim_storage(storages, identity if type(identity) is tuple else ())

    content = memoryview(b"\x80\x04" + b"".join(moves) + b".")
    try:
        _, size = read_pickle(content, safe_globals=allowed, budget=budget, persistent_load=persistent_load)
    except CheckpointError:
        return
    assert len(content) == size
