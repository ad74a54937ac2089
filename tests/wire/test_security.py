"""What the SDK shows to a server and wants to see of it: TLS, certificates and tokens."""

import asyncio

import pytest

from stylewire import AsyncClient, Client, Security, UnauthenticatedError, UnreachableError
from stylewire.client.admin import AdminClient
from support.authority import Authority
from support.servers import running_server

TOKEN = "correct-horse-battery-staple-0123456789"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of an authority, a server and a client, and tokens."""
    folder = tmp_path_factory.mktemp("authority")
    authority = Authority(folder)
    authority.issue()
    key, certificate = authority.client("web")
    (folder / "web.key").write_bytes(key)
    (folder / "web.pem").write_bytes(certificate)
    (folder / "tokens").write_text(f"web {TOKEN}\n")
    (folder / "token").write_text(f"{TOKEN}\n")
    return folder


@pytest.fixture(scope="module")
def closed(folder):
    """A server that wants certificates and tokens."""
    files = {name: folder / f"{end}.pem" for name, end in (("tls_certificate", "cert"), ("tls_key", "key"))}
    with running_server(tokens_file=folder / "tokens", tls_client_ca=folder / "ca.pem", **files) as server:
        yield server


@pytest.fixture(scope="module")
def in_the_clear(folder):
    """A server that wants tokens and has no TLS."""
    with running_server(tokens_file=folder / "tokens") as server:
        yield server


def mutual(folder, token=TOKEN, **more):
    return Security(
        ca=folder / "ca.pem", certificate=folder / "web.pem", key=f"{folder / 'web.key'}", token=token, **more
    )


def asked(address, security):
    """One call of every shape: an answer, a stream, many."""
    with Client(address, security=security) as client:
        frames = list(client.interpolate([1, 2], 2))
        return len(client.generate([1, 2]) + frames + list(client.generate_many([1, 2])))


async def asked_async(address, security):
    async with AsyncClient(address, security=security) as client:
        frames = [frame async for frame in client.interpolate([1, 2], 2)]
        many = [result async for result in client.generate_many([1, 2])]
        return len(await client.generate([1, 2]) + frames + many)


def test_client_speaks_mutual_tls_with_a_token(closed, folder):
    """Both clients are answered by a server that wants to see a certificate and a token, in calls of every shape."""
    security = mutual(folder)

    assert 6 == asked(closed.address, security)
    assert 6 == asyncio.run(asked_async(closed.address, security))


def test_token_goes_to_this_machine_in_the_clear(in_the_clear):
    """Beside the server, as behind a sidecar, tokens need no TLS."""
    security = Security(token=TOKEN)

    assert 6 == asked(in_the_clear.address, security)
    assert 6 == asyncio.run(asked_async(in_the_clear.address, security))


@pytest.mark.parametrize("address", ["faces.example:8500", "dns:///10.0.0.1:8500", "ipv4:127.0.0.1:1,10.0.0.1:2"])
@pytest.mark.parametrize("kind", [Client, AdminClient, AsyncClient])
def test_token_is_not_sent_readable(kind, address):
    """A token without TLS for another machine is refused before anything is sent, with the way out."""

    async def make():
        kind(address, security=Security(token=TOKEN))

    with pytest.raises(ValueError, match=r"readable to .*; set ca=FILE, or tls=True"):
        asyncio.run(make())


def test_token_of_a_file_is_read_for_each_call(in_the_clear, tmp_path):
    """A token that is replaced counts from the next call on, without a new client."""
    file = tmp_path / "token"
    file.write_text("wrong-but-long-enough-0123456789")
    with Client(in_the_clear.address, security=Security(token=file)) as client:
        with pytest.raises(UnauthenticatedError):
            client.generate(1)
        file.write_text(f"{TOKEN}\n")

        assert 1 == len(client.generate(1))


def test_token_of_a_function_is_asked_for_each_call(in_the_clear):
    """A function gives the token, and its own error is what the caller sees."""

    def give():
        if not tokens:
            raise LookupError("no token in the vault")
        return tokens.pop()

    tokens = [TOKEN, TOKEN]
    with Client(in_the_clear.address, security=Security(token=give)) as client:
        assert 1 == len(client.generate(1))
        assert 1 == len(list(client.interpolate([1, 2], 1)))
        with pytest.raises(LookupError, match="vault"):
            client.generate(1)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "\u00fc"])
def test_token_that_no_header_can_hold_is_refused(in_the_clear, token):
    """What would be another header, or none, is an error here and not on the wire."""
    with (
        Client(in_the_clear.address, security=Security(token=token)) as client,
        pytest.raises(ValueError, match="visible ASCII"),
    ):
        client.generate(1)


def test_server_of_another_authority_is_not_trusted(closed, folder):
    """With the authorities that gRPC brings, the test's server is nobody."""
    security = Security(tls=True, token=TOKEN)
    with Client(closed.address, timeout=20, security=security) as client, pytest.raises(UnreachableError):
        client.models()


def test_name_of_the_certificate_may_be_another(closed, folder):
    """``server_name`` is compared instead of the address."""
    assert 6 == asked(closed.address, mutual(folder, server_name="localhost"))


def test_missing_file_is_told_at_once(folder):
    """A client is not made of files that are not there."""
    with pytest.raises(FileNotFoundError, match=r"no\.pem"):
        Client("localhost:1", security=Security(ca=folder / "no.pem"))


def test_secret_is_not_shown():
    """A token does not get into logs with the object that holds it."""
    assert TOKEN not in repr(Security(token=TOKEN))
