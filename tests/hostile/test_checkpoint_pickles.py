"""Pickles written by hand to break an interpreter: each ends in one sentence, quickly, and nothing is run."""

import pickle
import pickletools
import struct
import time

import numpy as np
import pytest

from stylewire_export.checkpoints import read_generator
from stylewire_export.checkpoints.containers.torch_legacy import read_nested_storage
from stylewire_export.checkpoints.pickles.numpy_globals import NumpyArray
from stylewire_export.checkpoints.pickles.placeholders import MAX_STEPS, Budget
from stylewire_export.checkpoints.pickles.safe_globals import AttributeRecord, nvidia_globals, torch_globals
from stylewire_export.checkpoints.pickles.unpickler import read_pickle
from stylewire_export.checkpoints.tensors import Storage
from stylewire_export.errors import CheckpointError

SUPPORTED_OPCODES = """
    PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE
    BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_DICT EMPTY_LIST EMPTY_SET EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
    APPEND APPENDS SETITEM SETITEMS ADDITEMS BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE
    NEWOBJ BUILD BINPERSID
"""
ORDERED_DICT = b"ccollections\nOrderedDict\n"
NDARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01bt"
FLOAT32 = (
    b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4\x89\x88tR(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)


def _text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def _read(body, *, safe_globals=None, budget=None):
    """Run one pickle (protocol 4, STOP added) with the names of plain pickles."""
    budget = budget or Budget(copied_bytes=len(body))
    safe_globals = safe_globals or nvidia_globals(budget, lambda nested: read_nested_storage(nested, budget))
    return read_pickle(memoryview(b"\x80\x04" + body + b"."), safe_globals=safe_globals, budget=budget)[0]


def test_every_other_opcode_is_refused():
    """EXT, INST, OBJ, NEWOBJ_EX, DUP, POP, the text opcodes and all undefined bytes are refused, by name or number."""
    known = {opcode.code.encode("latin1")[0]: opcode.name for opcode in pickletools.opcodes}
    refused = [code for code in range(256) if known.get(code) not in SUPPORTED_OPCODES.split()]

    for code in refused:
        with pytest.raises(CheckpointError, match="opcode"):
            _read(b"N" + bytes([code]) + b"a\nb\n" + bytes(8))
    assert 256 - len(SUPPORTED_OPCODES.split()) == len(refused)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"cos\nsystem\n", "forbidden name 'os.system'"),
        (_text("os") + _text("system") + b"\x93", "forbidden name 'os.system'"),
        (b"K\x01K\x02\x93", "something that is no string"),
        (b"(ios\nsystem\n", r"INST to call 'os.system'"),
        (b"cbuiltins\ngetattr\n", "forbidden name 'builtins.getattr'"),
        (b"ccopyreg\n_reconstructor\n", "forbidden name"),
        (b"cargparse\nNamespace\n", "forbidden name"),  # of torch files only
        (b"ctorch\nFloatStorage\n", "forbidden name"),  # of nested streams only
        (b"(cdnnlib.tflib.network\nNetwork\nctorch._utils\n_rebuild_parameter\nt", "TensorFlow pickle.* never uses"),
        (b"c" + b"a" * 5000 + b"\nb\n", "a name in the pickle has no end"),
        (b"c\xff\nb\n", "not UTF-8"),
        (ORDERED_DICT + b")R}X\x0c\x00\x00\x00__setstate__Nsb", "sets attributes of a dictionary"),
        (b"]}b", "sets the state of something that has none"),
        (ORDERED_DICT + b"}b", "sets the state of something that has none"),
        (b"\x8f}b", "sets the state of something that has none"),
        (_text("eval") + b")R", "may not be called"),
        (ORDERED_DICT + b"]R", "may not be called"),
        (ORDERED_DICT + b")\x81", "may not be created"),
        (b"cdnnlib.util\nEasyDict\n)R", "may not be called"),
        (b"cdnnlib.util\nEasyDict\n(K\x01t\x81", "may not be created"),
        (b"cdnnlib.tflib.network\nNetwork\n)\x81}b}b", "set twice"),
        (b"cdnnlib.tflib.network\nNetwork\n)\x81]b", "no dictionary"),
        (ORDERED_DICT + b"(K\x01tR", "not made of pairs"),
        (b"cbuiltins\nset\n(]K\x01atR", "list of strings"),
        (b"\x8f(K\x01\x90", "no set of strings"),
        (b"})Ns", "neither a string nor a small number"),
        (b"}]Ns", "neither a string nor a small number"),
        (b"}\x88Ns", "neither a string nor a small number"),
        (b"}J\xff\xff\xff\xffNs", "neither a string nor a small number"),
        (b"}\x8a\x08" + (2**61 - 1).to_bytes(8, "little") + b"Ns", "neither a string nor a small number"),
        (b"}(NNNu", "sets items of something"),
        (b"](NNu", "sets items of something"),
        (b"}Na", "appends to something"),
        (b"a", "more from its stack"),
        (b"\x87", "more from its stack"),
        (b"q\x00", "does not exist"),
        (b"h\x07", "memo entry 7, which does not exist"),
        (b"Nr\xff\xff\xff\x7f", "memo entry 2147483647"),
        (b"t", "closes a group that it never opened"),
        (b"(", "does not end with one object"),
        (b"NN", "does not end with one object"),
        (b"", "does not end with one object"),
        (b"\x80\x09N", "pickle protocol 9"),
        (b"\x95" + b"\xff" * 8 + b"N", "frame of the pickle is longer"),
        (b"\x8b\x00\x01\x00\x00" + bytes(256), "whole number of 256 bytes"),
        (b"\x8a\xff" + bytes(255), "whole number of 255 bytes"),
        (b"X\xff\xff\xff\x7f", "longer than"),
        (b"\x8d" + b"\xff" * 8, "longer than"),
        (b"\x8e" + b"\xff" * 8, "lies about a length"),
        (b"X\x01\x00\x00\x00\xff", "not UTF-8"),
        (b"NQ", "outside of it"),
        (b"(" * 201, "nests deeper than 200"),
    ],
)
def test_forbidden_move_is_refused(body, reason):
    """A name, call, state, key, index or length that no checkpoint has is refused where it occurs."""
    with pytest.raises(CheckpointError, match=reason):
        _read(body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (FLOAT32.replace(b"f4", b"O8"), "NumPy type 'O8' is not supported"),
        (FLOAT32.replace(b"f4", b"V8"), "NumPy type 'V8' is not supported"),
        (FLOAT32.replace(b"f4", b"U4"), "NumPy type 'U4' is not supported"),
        (FLOAT32.replace(b"<N", b">N"), "little-endian"),
        (FLOAT32.replace(b"NNN", b"N)N"), "not a plain number"),
        (NDARRAY.replace(b"K\x00\x85", b"\x8a\x05\x00\x00\x00\x00\x7f\x85") + b"R", "unknown arguments"),
        (NDARRAY.replace(b"C\x01b", b"C\x01c") + b"R", "unknown arguments"),
        (NDARRAY + b"R(K\x01(K\x02t" + FLOAT32 + b"\x89C\x04abcdtb", "more or fewer bytes"),
        (NDARRAY + b"R(K\x01(J\xff\xff\xff\xfft" + FLOAT32 + b"\x89C\x04abcdtb", "impossible shape"),
        (NDARRAY + b"R(K\x01(" + b"K\x01" * 9 + b"t" + FLOAT32 + b"\x89C\x04abcdtb", "impossible shape"),
        (NDARRAY + b"R(K\x01(K\x01t" + FLOAT32 + b"\x89]tb", "where bytes are expected"),
        (NDARRAY + b"R(K\x02(K\x01t" + FLOAT32 + b"\x89C\x04abcdtb", "unknown state"),
        (b"cnumpy.core.multiarray\nscalar\n(" + FLOAT32 + b"C\x03abctR", "wrong number of bytes"),
        (b"cnumpy.core.multiarray\nscalar\n(NC\x04abcdtR", "unknown arguments"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR", "text and 'latin1'"),
        (b"c_codecs\nencode\n(X\x03\x00\x00\x00\xe2\x82\xacX\x06\x00\x00\x00latin1tR", "holds other characters"),
        (b"c_codecs\nencode\n)R", "text and 'latin1'"),
    ],
)
def test_forbidden_numpy_object_is_refused(body, reason):
    """Arrays of objects, foreign byte orders, and shapes that would allocate before a byte is read are refused."""
    with pytest.raises(CheckpointError, match=reason):
        _read(body)


@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_array_keeps_its_values(order):
    """A NumPy array in a pickle reads as the same array, in either memory order."""
    array = np.arange(24, dtype=np.float32).reshape((2, 3, 4), order="C").copy(order)
    content = pickle.dumps(array, protocol=4)

    budget = Budget(copied_bytes=0)
    allowed = nvidia_globals(budget, lambda nested: read_nested_storage(nested, budget))
    record, _ = read_pickle(memoryview(content), safe_globals=allowed, budget=budget)

    assert type(record) is NumpyArray
    np.testing.assert_array_equal(array, record.tensor.to_array())


@pytest.mark.parametrize(
    ("meta", "reason"),
    [
        ({"type": "module"}, "unknown kind or version"),
        ({"version": 7}, "unknown kind or version"),
        ({"class_name": "os.system"}, "no valid class name"),
        ({"class_name": None}, "no valid class name"),
        ({"module_src": b"bytes"}, "no valid class name or source"),
        ({"state": [1]}, "no dictionary of attributes"),
    ],
)
def test_persistent_object_of_another_kind_is_refused(meta, reason):
    """The records of NVIDIA's modules have exactly one form."""
    plain = {"type": "class", "version": 6, "module_src": "", "class_name": "Generator", "state": {}} | meta
    body = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n" + pickle.dumps((plain,), protocol=3)[2:-1] + b"R"

    with pytest.raises(CheckpointError, match=reason):
        _read(body)


def test_namespace_takes_no_hooks():
    """An argparse.Namespace is a record: a planted __setstate__ stays a value in a dictionary."""
    body = b"cargparse\nNamespace\n)\x81}X\x0c\x00\x00\x00__setstate__X\x04\x00\x00\x00evalsb"

    record = _read(body, safe_globals=torch_globals(Budget(copied_bytes=0)))

    assert type(record) is AttributeRecord
    assert {"__setstate__": "eval"} == record.state
    assert not hasattr(record, "__setstate__")


NESTED_STORAGE = (
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    b"\x80\x02}(X\x10\x00\x00\x00protocol_versionM\xe9\x03X\x0d\x00\x00\x00little_endian\x88u."
    b"\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01NtQ."
    b"\x80\x02]X\x01\x00\x00\x000a.\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80?"
)
NESTED_CALL = b"ctorch.storage\n_load_from_bytes\nq\x00(C" + bytes([len(NESTED_STORAGE)]) + NESTED_STORAGE + b"tq\x01"


PERSISTENT = b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n"
META = b"X\4\0\0\0typeX\5\0\0\0classX\7\0\0\0versionK\6X\n\0\0\0class_nameX\1\0\0\0GX\n\0\0\0module_srcX\0\0\0\0"
LONG_DICT = b"}(" + b"".join(b"J" + struct.pack("<i", key) + b"N" for key in range(100_000)) + b"u"


def _repeated(function_and_arguments, count=300_000):
    """Call the function in memo 0 with the arguments in memo 1, again and again."""
    return b"(" + function_and_arguments + b"h\x00h\x01R" * count + b"t"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"(" + b"N" * (MAX_STEPS + 1) + b"t", "steps"),
        (_repeated(ORDERED_DICT + b"q\x00](" + (_text("a") + b"N\x86") * 20_000 + b"e\x85q\x01"), "steps"),
        (_repeated(b"cbuiltins\nset\nq\x00](" + _text("a") * 20_000 + b"e\x85q\x01"), "steps"),
        (_repeated(b"c_codecs\nencode\nq\x00(" + _text("a" * 10**7) + _text("latin1") + b"tq\x01"), "more bytes"),
        (_repeated(NESTED_CALL), "steps"),
        (_repeated(b"cnumpy\ndtype\nq\x00(" + b"N" * 100_000 + b"tq\x01"), "NumPy type"),
        (_repeated(ORDERED_DICT + b"q\x00](" + b"N" * 100_000 + b"e\x85q\x01"), "pairs"),
        (b"}" + LONG_DICT + b"q\x00" + b"b" + b"h\x00b" * 300_000, "attributes of a dictionary"),
    ],
    ids=["steps", "OrderedDict", "set", "encode", "nested storages", "dtype", "pairs", "BUILD"],
)
def test_amplified_work_is_cut_off(body, reason):
    """Few bytes that ask for much work (the same long argument, again and again) run out of budget within seconds."""
    started = time.monotonic()

    with pytest.raises(CheckpointError, match=reason):
        _read(body)
    assert time.monotonic() - started < 15


def test_shared_state_is_checked_once():
    """A long dictionary of attributes under 90,000 modules costs no more than one."""
    meta = b"}(" + META + _text("state") + LONG_DICT + b"u"
    started = time.monotonic()

    modules = _read(_repeated(PERSISTENT + b"q\x00" + meta + b"\x85q\x01", 90_000))

    assert 90_000 < len(modules)
    assert time.monotonic() - started < 15


def test_nested_storage_is_read():
    """The control for the above: the stream is a valid storage of one number."""
    storage = _read(NESTED_CALL + b"R")

    assert type(storage) is Storage
    assert struct.pack("<f", 1.0) == bytes(storage.open())


def test_tensors_are_counted():
    """A file that declares more tensors than any model is stopped."""
    storage = NESTED_CALL.replace(b"q\x00", b"").replace(b"q\x01", b"") + b"R"
    tensors = _repeated(b"ctorch._utils\n_rebuild_tensor_v2\nq\x00(" + storage + b"K\x00))\x89}tq\x01", 20)
    budget = Budget(copied_bytes=0, tensors=10)

    with pytest.raises(CheckpointError, match="tensors"):
        _read(tensors, budget=budget)


@pytest.mark.parametrize(
    "body",
    [
        b"]" * 100_000 + b"a" * 99_999,
        b"}" + _text("a") + b"]q\x00s" + (_text("a") + b"]h\x00aq\x00s") * 100_000,
        b")" + b"\x85" * 100_000,
        (b"}" + _text("a")) * 5000 + b"N" + b"s" * 5000,
    ],
    ids=["lists on the stack", "lists through the memo", "tuples", "dictionaries"],
)
def test_deep_structure_is_refused(body):
    """Depth that would overflow a recursive reader is found without recursion, however it was built."""
    with pytest.raises(CheckpointError, match="nests deeper than 200"):
        _read(body)


def test_trailing_bytes_are_refused(tmp_path):
    """A second pickle, or anything else, after the first is no checkpoint."""
    (tmp_path / "two.pkl").write_bytes(pickle.dumps({}, protocol=4) + b"cos\nsystem\n")

    with pytest.raises(CheckpointError, match="bytes follow the end"):
        read_generator(tmp_path / "two.pkl")
