import inspect
import pydoc

import pytest

from stylewire import AsyncClient, Client, seed
from stylewire.client import options, requests
from stylewire.client.admin import AdminClient
from stylewire.client.bulk import CallWindow

OPTIONS = {
    "generate": options.GenerateOptions,
    "generate_many": options.ManyOptions,
    "invert": options.InvertOptions,
    "project": options.ProjectOptions,
    "mix_styles": options.MixOptions,
    "interpolate": options.InterpolateOptions,
    "interpolate_video": options.VideoOptions,
}
INPUTS = {
    "generate": (7,),
    "generate_many": ([7],),
    "invert": (b"file",),
    "project": (b"file",),
    "mix_styles": (7, 8),
    "interpolate": ([7, 8], 5),
    "interpolate_video": ([7, 8], 5),
}
METHODS = [
    (client, name)
    for client in (Client, AsyncClient, AdminClient)
    for name, _ in inspect.getmembers(client, inspect.isfunction)
    if not name.startswith("_")
]
WITH_OPTIONS = [(client, name) for client, name in METHODS if name in OPTIONS]
BUILDERS = {
    requests.generate_request: (options.GenerateOptions, ([7],)),
    requests.invert_request: (options.InvertOptions, (b"file",)),
    requests.project_request: (options.ProjectOptions, (b"file",)),
    requests.mix_request: (options.MixOptions, (7, requests.to_styles(8), None)),
    requests.interpolate_request: (options.InterpolateOptions, ([7, 8], 5)),
    requests.video_request: (options.VideoOptions, ([7, 8], 5)),
}


def test_every_call_with_options_is_tested_here():
    """A method that takes ``**options`` is in the table above."""
    assert {(client, name) for client in (Client, AsyncClient) for name in OPTIONS} == set(WITH_OPTIONS)


@pytest.mark.parametrize(("client", "name"), METHODS)
def test_signature_names_every_parameter_with_its_type(client, name):
    """No method of a client hides parameters behind ``**``, and all of them have a type."""
    parameters = list(inspect.signature(getattr(client, name)).parameters.values())[1:]

    assert all(each.kind is not inspect.Parameter.VAR_KEYWORD for each in parameters)
    assert all(each.annotation is not inspect.Parameter.empty for each in parameters)


@pytest.mark.parametrize(("client", "name"), WITH_OPTIONS)
def test_signature_lists_the_options_with_types_and_defaults(client, name):
    """``inspect.signature`` shows what ``Unpack`` promises to type checkers, and a default for each option."""
    parameters = inspect.signature(getattr(client, name)).parameters

    for option, kind in OPTIONS[name].__annotations__.items():
        assert kind == parameters[option].annotation
        assert inspect.Parameter.KEYWORD_ONLY is parameters[option].kind
        assert inspect.Parameter.empty is not parameters[option].default


@pytest.mark.parametrize(("client", "name"), WITH_OPTIONS)
def test_help_describes_every_option(client, name):
    """``help`` shows each option with its type and its default, and once says what it means."""
    method = getattr(client, name)
    shown = pydoc.plaintext.document(method)

    assert "**" not in shown
    for option in OPTIONS[name].__annotations__:
        assert f"{inspect.signature(method).parameters[option]}" in shown
        assert 1 == shown.count(f"\n        {option}: ")


@pytest.mark.parametrize(("client", "name"), METHODS)
def test_help_has_a_sentence_for_every_method(client, name):
    """Each method of a client begins its help with one sentence."""
    first = inspect.getdoc(getattr(client, name)).partition("\n")[0]

    assert first.endswith((".", "``."))


@pytest.mark.parametrize("name", OPTIONS)
def test_both_clients_take_the_same(name):
    """``Client`` and ``AsyncClient`` have the same parameters, types and defaults."""
    of_threads, of_asyncio = (inspect.signature(getattr(client, name)).parameters for client in (Client, AsyncClient))

    assert of_threads == of_asyncio


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_defaults_that_are_shown_are_those_of_the_request(builder):
    """A call with every default spelled out asks for the same as a call without options."""
    kind, inputs = BUILDERS[builder]
    defaults = {name: inspect.signature(builder).parameters[name].default for name in kind.__annotations__}

    assert builder(*inputs) == builder(*inputs, **defaults)


def test_defaults_that_are_shown_are_those_of_bulk_calls():
    """The same of ``generate_many``: its options are those of its calls, and its own."""
    defaults = {
        name: inspect.signature(CallWindow).parameters[name].default for name in options.ManyOptions.__annotations__
    }
    sent = []
    for given in ({}, defaults):
        CallWindow(sent.append, [seed(7)], **given).oldest()

    assert 2 == len(sent)
    assert sent[0] == sent[1]


@pytest.mark.parametrize("name", OPTIONS)
def test_unknown_options_are_refused(name):
    """What no call knows is a TypeError, as for any function."""
    with Client("localhost:1") as client, pytest.raises(TypeError, match="unknown_option"):
        list(getattr(client, name)(*INPUTS[name], unknown_option=1))  # many are asked for when they are read
