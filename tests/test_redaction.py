"""Credentials in messages: what is taken out, and what is refused before it can get into one."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from olmo_core import provenance
from olmo_core.documents.listing import list_files
from olmo_core.errors import InputError, OlmoError, RecipeError, StorageError
from olmo_core.redaction import has_user, redacted
from olmo_core.storage import Storage
from olmo_core.storage_s3 import forget as forget_clients

KEY, SECRET = "AKIARECOGNISABLE", "recognisable/secret+key"
ADDRESSES = [f"s3://{KEY}:{SECRET}@bucket/x", f"s3://{KEY}:plainsecret@bucket", f"s3://{KEY}@bucket/y"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"cannot read s3://{KEY}:{SECRET}@bucket/x", "cannot read s3://***@bucket/x"),
        ("proxy 'http://user:p%40ss@proxy:3128' refused", "proxy 'http://***@proxy:3128' refused"),
        (
            "https://host/a?X-Amz-Signature=abc&b=1 and ?token=xyz",
            "https://host/a?X-Amz-Signature=***&b=1 and ?token=***",
        ),
        (
            "nothing here: s3://bucket/a@b, a@b.org, file:///x@y, 12:30",
            "nothing here: s3://bucket/a@b, a@b.org, file:///x@y, 12:30",
        ),
        ("https://host:8080/path and write to a@b.org", "https://host:8080/path and write to a@b.org"),
    ],
)
def test_addresses(text: str, shown: str) -> None:
    assert redacted(text) == shown == redacted(shown)


def test_values_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("HTTPS_PROXY", "http://someone:proxypassword@proxy:1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "sometimes")
    monkeypatch.setenv("HF_TOKEN", "short")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token")
    told = redacted(f"{KEY} {SECRET} proxypassword sometimes short /var/run/token")
    assert told == "*** *** *** sometimes short /var/run/token"
    error = pickle.loads(pickle.dumps(InputError(f"it said {SECRET}")))
    assert type(error) is InputError and str(error) == "it said ***"
    assert str(OlmoError()) == ""


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_with_credentials_are_refused(address: str) -> None:
    assert has_user(address)
    for refuse in (
        lambda: Storage(address),
        lambda: list_files("web", (f"{address}/*.jsonl",), None),
        lambda: list_files("web", ("*.jsonl",), address),
    ):
        with pytest.raises((StorageError, RecipeError), match="user name or password") as caught:
            refuse()
        assert KEY not in str(caught.value) and "secret" not in str(caught.value)


def test_an_endpoint_with_a_password_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{KEY}:{SECRET}@127.0.0.1:1")
    forget_clients()
    try:
        for action in (lambda s: s.size("x"), lambda s: s.put("x", b"")):
            with pytest.raises(StorageError, match="AWS_ENDPOINT_URL holds a user name or password"):
                action(Storage("s3://bucket/x"))
    finally:
        monkeypatch.undo()
        forget_clients()


def test_manifests_do_not_say_where_the_code_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remotes hold tokens, arguments hold addresses: of a checkout only its commit is noted."""
    package = tmp_path / "olmo_core"
    package.mkdir()
    (package / "a.py").write_text("")
    commands = (["init", "-q"], ["remote", "add", "origin", f"https://{KEY}:{SECRET}@example.org/x.git"], ["add", "."])
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (
        *commands,
        [*identity, "commit", "-qm", f"{SECRET}"],
        [*identity, "tag", "-am", "x", SECRET.replace("+", "")],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "_PACKAGE", package)
    monkeypatch.setattr(sys, "argv", ["olmo", f"s3://{KEY}:{SECRET}@bucket"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    provenance.environment.cache_clear()
    try:
        told = dict(provenance.environment())
    finally:
        provenance.environment.cache_clear()
    assert len(str(told["commit"])) == 40
    assert KEY not in repr(told) and "recognisable" not in repr(told)
