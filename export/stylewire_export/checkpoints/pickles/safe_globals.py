"""The names that checkpoints may use, one exact table a family, each with the placeholder that takes its place.

No prefixes and no patterns: ``torch.utils.collect_env.run`` starts a shell and ``numpy.testing`` executes text. A name
that is not in the table is refused before anything is looked up. Nothing here imports or calls what a name means.
Source: format notes 3, sections 3.3 and 3.4.
"""

from collections.abc import Callable, Mapping

from stylewire_export.checkpoints.pickles.numpy_globals import as_bytes, numpy_globals
from stylewire_export.checkpoints.pickles.placeholders import Budget, Placeholder, SafeGlobal
from stylewire_export.checkpoints.tensors import TYPES_BY_STORAGE, Storage, TensorRecord, view_storage
from stylewire_export.errors import CheckpointError, quote

MAX_CLASS_NAME = 200

Table = Mapping[tuple[str, str], object]


class SafeGlobals:
    """The names that a pickle may use: its first names decide the family, which cannot change afterwards.

    Args:
        tables: family -> its table.
    """

    def __init__(self, tables: Mapping[str, Table]) -> None:
        self._tables = dict(tables)

    def find(self, module: str, name: str) -> object:
        """Return what takes the place of a name.

        Raises:
            CheckpointError: no family that is still possible uses the name.
        """
        matching = {family: table for family, table in self._tables.items() if (module, name) in table}
        if not matching:
            raise CheckpointError(
                f"the forbidden name {quote(module + '.' + name)} occurs in it; nothing of the file was run "
                f"(a {' or '.join(self._tables)} never uses that name)"
            )
        self._tables = matching
        return next(iter(matching.values()))[module, name]


class PersistentObject(Placeholder):
    """A module of an NVIDIA network: the name of its class and its attributes. Its source text is never looked at."""

    __slots__ = ("class_name",)

    def __init__(self, class_name: str, state: dict[object, object]) -> None:
        super().__init__(state)
        self.class_name = class_name


class AttributeRecord(Placeholder):
    """A TensorFlow network or an argparse.Namespace: a dictionary of attributes."""

    __slots__ = ()

    def build(self, state: object) -> None:
        """Set the attributes, once."""
        if self.state is not None or type(state) is not dict:
            raise CheckpointError("the attributes of an object are no dictionary, or are set twice")
        self.state = state


def nvidia_globals(budget: Budget, load_bytes: Callable[[memoryview], Storage]) -> SafeGlobals:
    """List the names in pickles of NVIDIA, written by PyTorch or by TensorFlow.

    Args:
        budget: of the file.
        load_bytes: reads the torch stream of one storage that is nested in a byte string.
    """
    easy_dict = {("dnnlib.util", "EasyDict"): SafeGlobal(create=dict)}
    network = SafeGlobal(create=AttributeRecord)
    nvidia: Table = {
        **_torch_tensors(budget),
        **numpy_globals(budget),
        **easy_dict,
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): SafeGlobal(call=_persistent_object),
        ("torch.storage", "_load_from_bytes"): SafeGlobal(call=lambda args: load_bytes(as_bytes(_single(args)))),
        **dict.fromkeys([("builtins", "set"), ("__builtin__", "set")], SafeGlobal(call=_set_maker(budget))),
    }
    tensorflow: Table = {
        **numpy_globals(budget),
        **easy_dict,
        ("dnnlib.tflib.network", "Network"): network,
        ("tfutil", "Network"): network,
    }
    return SafeGlobals({"PyTorch pickle of NVIDIA": nvidia, "TensorFlow pickle of NVIDIA": tensorflow})


def torch_globals(budget: Budget) -> SafeGlobals:
    """List the names in files of ``torch.save``."""
    numbers = {key: value for key, value in numpy_globals(budget).items() if key[1] in ("scalar", "dtype", "encode")}
    table: Table = {
        **_torch_tensors(budget),
        **_STORAGE_TYPES,
        **numbers,
        ("argparse", "Namespace"): SafeGlobal(call=lambda args: _empty(args, AttributeRecord), create=AttributeRecord),
    }
    return SafeGlobals({"state dict of torch.save": table})


def storage_globals() -> SafeGlobals:
    """List the names in the torch stream of a single storage."""
    return SafeGlobals({"storage nested in a pickle": _STORAGE_TYPES})


_STORAGE_TYPES: Table = {("torch", name): dtype for name, dtype in TYPES_BY_STORAGE.items()}


def _torch_tensors(budget: Budget) -> Table:
    return {
        ("collections", "OrderedDict"): SafeGlobal(call=_ordered_dict_maker(budget)),
        ("torch._utils", "_rebuild_tensor_v2"): SafeGlobal(call=_tensor_maker(budget)),
        ("torch._utils", "_rebuild_parameter"): SafeGlobal(call=_parameter),
    }


def _single(arguments: tuple[object, ...]) -> object:
    if len(arguments) != 1:
        raise CheckpointError("the pickle calls one of its names with the wrong number of arguments")
    return arguments[0]


def _empty(arguments: tuple[object, ...], create: Callable[[], object]) -> object:
    if arguments:
        raise CheckpointError("the pickle creates an object with arguments, which no checkpoint does")
    return create()


def _ordered_dict_maker(budget: Budget) -> Callable[[tuple[object, ...]], object]:
    def ordered_dict(arguments: tuple[object, ...]) -> dict[str, object]:
        pairs = _single(arguments) if arguments else []
        if type(pairs) is not list:
            raise CheckpointError("an OrderedDict is not made of pairs")
        budget.spend(len(pairs))  # the same long list may be passed many times
        if any(type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs):
            raise CheckpointError("an OrderedDict is not made of pairs")
        if any(type(key) is not str for key, _ in pairs):
            raise CheckpointError("a key of an OrderedDict is no string")
        return dict(pairs)

    return ordered_dict


def _set_maker(budget: Budget) -> Callable[[tuple[object, ...]], object]:
    def make_set(arguments: tuple[object, ...]) -> set[str]:
        items = _single(arguments)
        if type(items) is not list:
            raise CheckpointError("a set is not made of a list of strings")
        budget.spend(len(items))
        if any(type(item) is not str for item in items):
            raise CheckpointError("a set is not made of a list of strings")
        return set(items)

    return make_set


def _tensor_maker(budget: Budget) -> Callable[[tuple[object, ...]], object]:
    def rebuild_tensor(arguments: tuple[object, ...]) -> TensorRecord:
        # storage, offset, shape, stride, requires_grad, backward hooks, metadata (newer torch)
        if len(arguments) not in (6, 7) or type(arguments[4]) is not bool or any(arguments[5:]):
            raise CheckpointError("a tensor is rebuilt from unknown arguments")
        budget.spend_tensor()
        return view_storage(*arguments[:4])

    return rebuild_tensor


def _parameter(arguments: tuple[object, ...]) -> object:
    # tensor, requires_grad, backward hooks
    if len(arguments) != 3 or type(arguments[0]) is not TensorRecord or arguments[2] != {}:
        raise CheckpointError("a parameter is rebuilt from unknown arguments")
    return arguments[0]


def _persistent_object(arguments: tuple[object, ...]) -> object:
    meta = _single(arguments)
    if type(meta) is not dict or meta.get("type") != "class" or meta.get("version") != 6:
        raise CheckpointError("a persistent object is of an unknown kind or version (version 6 is supported)")
    name, source, state = meta.get("class_name"), meta.get("module_src"), meta.get("state")
    if type(name) is not str or len(name) > MAX_CLASS_NAME or not name.isidentifier() or type(source) is not str:
        raise CheckpointError("a persistent object has no valid class name or source")
    if state is not None and type(state) is not dict:
        raise CheckpointError("the state of a persistent object is no dictionary of attributes")
    return PersistentObject(name, state or {})
