"""Tokens of a file: who has which, what is refused, and what happens when the file changes."""

import hashlib
import logging

import pytest

from stylewire.errors import UnauthenticatedError
from stylewire.server.config.settings import SettingError
from stylewire.server.front.auth.tokens import Tokens

SECRET, OTHER = "correct-horse-battery", "staple-correct-horse"


@pytest.fixture
def path(tmp_path):
    """A file with one token."""
    path = tmp_path / "tokens"
    path.write_text(f"# clients\nweb {SECRET}  # of the shop\n\n", encoding="utf-8")
    return path


def bearer(token):
    return [("user-agent", "x"), ("authorization", f"Bearer {token}")]


def test_token_names_its_client(path):
    """Each token belongs to a client, and a client may have several."""
    path.write_text(f"web {SECRET}\nbatch {OTHER}\nbatch {OTHER}2\n", encoding="utf-8")
    tokens = Tokens(path)

    assert ["web", "batch", "batch"] == [tokens.client(bearer(each)) for each in (SECRET, OTHER, OTHER + "2")]


def test_token_may_be_stored_hashed(path):
    """A file with digests tells nobody the tokens."""
    path.write_text(f"web sha256:{hashlib.sha256(SECRET.encode()).hexdigest()}\n", encoding="utf-8")

    assert "web" == Tokens(path).client(bearer(SECRET))


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", SECRET)],
        [("authorization", f"Basic {SECRET}")],
        [("authorization", b"Bearer \xff")],
        bearer(""),
        bearer(SECRET + "x"),
        bearer(SECRET[:-1]),
        bearer(OTHER),
        bearer("sha256:" + hashlib.sha256(SECRET.encode()).hexdigest()),
    ],
)
def test_call_without_a_known_token_is_refused(path, metadata):
    """No token, another scheme, and tokens that nobody has; the answer does not repeat what was sent."""
    with pytest.raises(UnauthenticatedError) as caught:
        Tokens(path).client(metadata)

    assert SECRET[:8] not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web\n", "line 1: expected NAME TOKEN"),
        (f"\nweb {SECRET} more\n", "line 2: expected NAME TOKEN"),
        (f"a/b {SECRET}\n", "line 1: expected NAME TOKEN"),
        ("web short\n", "line 1: the token of web is shorter than 16"),
        ("# nobody\n", "has no tokens"),
        (None, "cannot be read"),
    ],
)
def test_wrong_file_is_refused(path, text, message):
    """A wrong line is named by its number, never by its token."""
    path.unlink() if text is None else path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingError) as caught:
        Tokens(path)

    assert message in str(caught.value)
    assert SECRET not in str(caught.value)


def test_changed_file_counts(path):
    """After a change the old token is worth nothing and the new one is."""
    tokens = Tokens(path)
    path.write_text(f"web {OTHER}\n", encoding="utf-8")
    tokens.refresh()

    assert "web" == tokens.client(bearer(OTHER))
    with pytest.raises(UnauthenticatedError):
        tokens.client(bearer(SECRET))


@pytest.mark.parametrize("broken", ["web\n", "", None])
def test_broken_change_leaves_the_tokens(path, broken, caplog):
    """A file that is wrong, empty or gone locks nobody out and lets nobody in; the log says so without tokens."""
    tokens = Tokens(path)
    path.unlink() if broken is None else path.write_text(broken, encoding="utf-8")
    with caplog.at_level(logging.INFO):
        tokens.refresh()
        tokens.refresh()

    assert "web" == tokens.client(bearer(SECRET))
    assert ["ERROR"] == [record.levelname for record in caplog.records]
    assert "the tokens of before still hold" in caplog.text
