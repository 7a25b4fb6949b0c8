import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from tests.certificates import EXPIRED, Authority, mount

from pilothouse.errors import ConfigError
from pilothouse.tls import Certificates, Tls, files
from pilothouse.tls.proof import prove


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


@pytest.fixture
def strangers(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "theirs")


def content(tls: Tls) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (tls.cert_file, tls.key_file, tls.ca_file)}


def with_password(key: bytes) -> bytes:
    loaded = serialization.load_pem_private_key(key, None)
    return loaded.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


def test_good_files_say_until_when_and_for_whom(authority: Authority) -> None:
    tls = authority.issue("policy", "policy.ns.svc", "127.0.0.1")
    found = Certificates(tls, "server", "client")
    assert found.certificate.names == ("policy.ns.svc", "127.0.0.1")
    assert found.certificate.not_after == 32503680000  # trustme: the year 3000
    assert found.current().certificates == tls.cert_file.read_bytes()


BROKEN: dict[str, tuple[Callable[[dict[str, bytes]], dict[str, bytes]], str]] = {
    "another key": (
        lambda good: good | {"tls.key": trustme.CA().issue_cert("x").private_key_pem.bytes()},
        "tls.key_file: .* is not the key of .*; give two that were made together",
    ),
    "a key with a password": (
        lambda good: good | {"tls.key": with_password(good["tls.key"])},
        "tls.key_file: .* holds no key that can be read; .* without a password",
    ),
    "no key": (lambda good: good | {"tls.key": b"hello"}, "tls.key_file: .* holds no key that can be read"),
    "no certificate": (lambda good: good | {"tls.crt": b"hello"}, "tls.cert_file: .* holds no certificate"),
    "the key twice": (
        lambda good: good | {"tls.crt": good["tls.key"]},
        "tls.cert_file: .* holds no certificate",
    ),
    "no authority": (lambda good: good | {"ca.crt": b""}, "tls.ca_file: .* holds no certificate"),
    "a file that is missing": (
        lambda good: {name: text for name, text in good.items() if name != "ca.crt"},
        "tls.ca_file: cannot read .*: No such file or directory; give a file that this user may read",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(
    authority: Authority, tmp_path: Path, fault: str
) -> None:
    damage, message = BROKEN[fault]
    broken = damage(content(authority.issue("good")))
    tls = mount(tmp_path / "broken", broken)
    with pytest.raises(ConfigError, match=message) as caught:
        Certificates(tls)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda ours, theirs: ours.issue("old", **EXPIRED),
            r"has expired on \d{4}-\d\d-\d\d at \d\d:\d\d UTC;",
        ),
        (
            lambda ours, theirs: ours.issue("stranger", trusts=theirs),
            "is not signed by an authority in .*ca.crt .*; put the certificate of the authority",
        ),
    ],
    ids=["expired", "another authority"],
)
def test_a_certificate_that_no_peer_would_take_is_told_before_anybody_is_called(
    authority: Authority, strangers: Authority, made: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Certificates(made(authority, strangers))


def test_an_intermediate_authority_may_be_all_that_is_trusted(authority: Authority, tmp_path: Path) -> None:
    issuer = authority.ca.create_child_ca()
    tls = authority.issue("policy", ca=issuer)
    assert Certificates(tls, "server", "client").certificate.names
    good = content(tls) | {"ca.crt": issuer.cert_pem.bytes()}
    assert Certificates(mount(tmp_path / "only", good), "server", "client").certificate.names


def test_replaced_files_are_taken_up_with_the_next_look(authority: Authority, strangers: Authority) -> None:
    tls = authority.issue("policy")
    found = Certificates(tls)
    before = found.current()
    assert found.current() is before
    authority.issue("policy", "renewed.example")
    after = found.current()
    assert after is not before
    assert after.certificates == tls.cert_file.read_bytes()
    assert found.certificate.names == ("renewed.example",)


def test_a_certificate_that_is_not_valid_yet_is_taken_up_when_it_is(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = authority.issue("policy")
    found = Certificates(tls)
    proofs = list[str]()

    def counted(given: Tls, role: Any) -> Any:
        proofs.append(role)
        return prove(given, role)

    monkeypatch.setattr(files, "prove", counted)
    authority.issue("policy", not_before=datetime.now(UTC) + timedelta(seconds=2))
    looks = 0
    while found.current().certificates != tls.cert_file.read_bytes():
        looks += 1
        time.sleep(0.01)
    assert len(proofs) < max(looks, 3)  # not with every look


def test_files_that_cannot_be_used_change_nothing_until_they_can(authority: Authority) -> None:
    tls = authority.issue("policy")
    found = Certificates(tls)
    before = found.current()
    key = tls.key_file.read_bytes()
    tls.key_file.write_bytes(authority.issue("other").key_file.read_bytes())  # its certificate comes later
    assert found.current() is before
    tls.cert_file.unlink()
    assert found.current() is before
    authority.issue("policy", **EXPIRED)
    assert found.current() is before
    authority.issue("policy")
    assert found.current().key not in (before.key, key)
