"""TLS and mutual TLS, and certificates that are replaced while the server runs."""

import ssl

import grpc
import pytest

from stylewire import pb
from stylewire.server.config.settings import SettingError
from support.authority import Authority
from support.refusals import failure
from support.servers import running_server

ONE = pb.GenerateRequest(latents=[pb.Latent(seed=1)])
QUICK = [("grpc.initial_reconnect_backoff_ms", 100)]


@pytest.fixture
def authority(tmp_path):
    authority = Authority(tmp_path)
    authority.issue()
    return authority


def generate(server, root=None, pair=(None, None), **options):
    """One call over a connection of its own."""
    credentials = grpc.ssl_channel_credentials(root, *pair)
    with grpc.secure_channel(server.address, credentials, QUICK) as channel:
        return pb.StyleGanServiceStub(channel).Generate(ONE, timeout=20, **options)


def served_certificate(server):
    """What a new connection is shown."""
    host, _, port = server.address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)))


@pytest.fixture(scope="module")
def plain(small_models):
    return small_models / "plain"


def test_tls_serves_who_trusts_it(plain, authority):
    """A client that knows the authority is answered."""
    with running_server(models=plain, **authority.settings) as server:
        assert 1 == len(generate(server, authority.root).images)


def test_tls_port_speaks_nothing_else(plain, authority, tmp_path):
    """A client without TLS, and one that trusts another authority, get no answer."""
    (tmp_path / "other").mkdir()
    with running_server(models=plain, **authority.settings) as server:
        with grpc.insecure_channel(server.address) as channel:
            bare = failure(pb.StyleGanServiceStub(channel).Generate, ONE)
        with pytest.raises(grpc.RpcError) as mistrusted:
            generate(server, Authority(tmp_path / "other").root)

    assert grpc.StatusCode.UNAVAILABLE == bare.code()
    assert grpc.StatusCode.UNAVAILABLE == mistrusted.value.code()


def test_mutual_tls_wants_a_certificate(plain, authority, tmp_path):
    """Only clients with a certificate of the authority are answered."""
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other").client("stranger")
    with running_server(models=plain, tls_client_ca=authority.client_ca, **authority.settings) as server:
        assert 1 == len(generate(server, authority.root, authority.client("web")).images)
        for pair in ((None, None), stranger):
            with pytest.raises(grpc.RpcError) as caught:
                generate(server, authority.root, pair)
            assert grpc.StatusCode.UNAVAILABLE == caught.value.code()


def test_certificate_names_the_client(plain, authority):
    """With mutual TLS limits are those of the certificate's name, not of the address."""
    limits = {"max_calls_per_second": 0.01, "tls_client_ca": authority.client_ca}
    with running_server(models=plain, **limits, **authority.settings) as server:
        generate(server, authority.root, authority.client("web"))
        with pytest.raises(grpc.RpcError) as caught:
            generate(server, authority.root, authority.client("web"))

        assert 1 == len(generate(server, authority.root, authority.client("batch")).images)
        assert grpc.StatusCode.RESOURCE_EXHAUSTED == caught.value.code()


def test_rotated_certificate_is_shown_without_a_restart(plain, authority):
    """New connections see the new certificate, those that are open go on."""
    with running_server(models=plain, **authority.settings) as server:
        before = served_certificate(server)
        credentials = grpc.ssl_channel_credentials(authority.root)
        with grpc.secure_channel(server.address, credentials) as channel:
            stub = pb.StyleGanServiceStub(channel)
            stub.Generate(ONE)
            authority.issue("rotated.example")
            after = served_certificate(server)

            assert authority.certificate.read_text() == after != before
            assert 1 == len(stub.Generate(ONE).images)
        assert 1 == len(generate(server, authority.root).images)


@pytest.mark.parametrize("damage", ["half", "garbage", "gone"])
def test_broken_rotation_leaves_the_certificate(plain, authority, damage):
    """While the files do not fit together the certificate of before is shown; when they do, the new one."""
    with running_server(models=plain, **authority.settings) as server:
        before, key = served_certificate(server), authority.key.read_bytes()
        authority.issue()
        fitting = authority.key.read_bytes()
        if damage == "gone":
            authority.key.unlink()
        else:
            authority.key.write_bytes(key if damage == "half" else b"no key")
        during = served_certificate(server)
        authority.key.write_bytes(fitting)
        after = served_certificate(server)

        assert before == during
        assert authority.certificate.read_text() == after
        assert 1 == len(generate(server, authority.root).images)


@pytest.mark.parametrize("damage", [b"no key", None, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_start_with_wrong_files_is_refused(plain, authority, damage):
    """Files that do not fit end the start with a message that names them, and tell nothing of the key."""
    authority.key.unlink() if damage is None else authority.key.write_bytes(damage)

    with pytest.raises(SettingError, match=r"cert\.pem.*key\.pem"), running_server(models=plain, **authority.settings):
        pass


def test_key_with_a_password_is_refused(plain, authority):
    """A key that needs a password is refused with the fix, not asked for on a terminal."""
    from cryptography.hazmat.primitives import serialization as s  # noqa: PLC0415 - trustme brings it

    key = s.load_pem_private_key(authority.key.read_bytes(), None)
    locked = s.BestAvailableEncryption(b"secret")
    authority.key.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, locked))

    with pytest.raises(SettingError, match="has a password"), running_server(models=plain, **authority.settings):
        pass
