"""Keys in addresses are hidden wherever they are shown; what only looks like one is left as it is."""

import doctest
import pickle

import pytest

from search_spaces import InputError, redact
from search_spaces.redact import public, redacted, secrets_of

SECRETS = [
    "s3://KEY:SECRET@bucket/p",
    "s3://KEY:SE/CR+ET@bucket/p",
    "s3://KEY:SE@CRET@bucket",
    "s3://SECRET@bucket/p?region=eu",
    "gs://bucket/p?access_key=SECRET&region=eu",
    "https://host/x?X-Amz-Signature=SECRET",
    "postgresql+psycopg://me:12SECRET@host:5432/db",
    "redis://:SECRET@host:1/0",
    "postgresql://host/db?user=me&PASSWORD=SECRET",
]


@pytest.mark.parametrize("address", SECRETS)
def test_a_key_is_hidden_in_any_text(address):
    """In the address alone and in the middle of a line; nothing of the secret is left, the host is."""
    for text in (address, f"--results {address}: no such thing as '{address}'"):
        said = redacted(text)
        assert "SE" not in said and "CRET" not in said and "***" in said
        assert ("bucket" in said) or ("host" in said)
    assert "SE" not in public(address) and "CRET" not in public(address) and "***" not in public(address)
    assert any("SE" in secret for secret in secrets_of(address))


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/p@v1",
        "http://host:8080/a@b",
        "http://[::1]:80/x@y",
        "file:///data/a b/c@d",
        "s3://bucket/p?region=eu&endpoint_override=h:1",
        "mail me@host, or see http://host",
        "a/b:c@d",
        "",
    ],
)
def test_what_is_no_key_stays(text):
    """An @ in a path, a port, a region: as they were, and the folder of a store is the one it always had."""
    assert redacted(text) == text == public(text)
    assert secrets_of(text) == []


def test_no_error_line_has_a_key():
    """Whoever raises an InputError cannot give one away, also not by way of another process."""
    error = InputError(["--x http://me:SECRET@host/a: is wrong", "--y: too"])
    assert error.problems == ["--x http://***@host/a: is wrong", "--y: too"]
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == "\n".join(error.problems)


def test_the_examples_hold():
    """The docstrings' examples are what the functions say."""
    assert doctest.testmod(redact).failed == 0
