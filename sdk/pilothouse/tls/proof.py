"""Whether certificate files are what they should be: a handshake in memory, with the rules of a real one."""

import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pilothouse.errors import ConfigError
from pilothouse.tls.config import Tls

Role = Literal["client", "server"]
"""The side of a connection that shows the certificate."""

_EXPIRED, _NOT_YET_VALID = 10, 9
_WRONG_PURPOSE = 26
_WRONG_NAME = (62, 64)
_NO_CHECK_TIME = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME, for which Python has no name."""
_FLIGHTS = 8
"""More than any handshake takes."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says."""

    names: tuple[str, ...]
    """Host names, addresses and URIs of its subject."""
    not_after: float
    """When it expires, in Unix seconds."""


def prove(tls: Tls, role: Role, *, host: str | None = None) -> Certificate:
    """Returns what the certificate says, once it has convinced a peer that trusts ``ca_file``.

    Args:
        tls: The files.
        role: Who shows it.
        host: Name or address that it must have, as ``server``.

    Raises:
        ConfigError: A file cannot be read or holds something else, the key is another certificate's, the
            certificate has expired, or no authority in ``ca_file`` vouches for it.
    """
    for key, file in (("key_file", tls.key_file), ("cert_file", tls.cert_file), ("ca_file", tls.ca_file)):
        read_file(key, file)  # OpenSSL does not say which one it misses
    try:
        return _read(_shake(tls, role, host, ssl.VERIFY_X509_PARTIAL_CHAIN))
    except ssl.SSLCertVerificationError as error:
        raise ConfigError(_explain(tls, role, host, error)) from None
    except ssl.SSLError as error:
        raise ConfigError(f"{tls.cert_file} and {tls.key_file} cannot be used for TLS: {error}") from None


def read_file(key: str, file: Path) -> bytes:
    """Returns the content of one of the files.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"tls.{key}: cannot read {file}: {error.strerror}; give a file that this user may read"
        ) from None


def _shake(tls: Tls, role: Role, host: str | None, flags: ssl.VerifyFlags) -> Any:
    """Returns the decoded certificate as its verifier saw it; only the other side is verified."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    _load_pair(server, tls)
    if role == "client":
        _load_pair(client, tls)
    verifier = client if role == "server" else server
    verifier.verify_mode = ssl.CERT_REQUIRED
    verifier.verify_flags |= flags
    client.check_hostname = host is not None
    _load_authorities(verifier, tls)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = {
        "client": client.wrap_bio(to_client, to_server, server_hostname=host),
        "server": server.wrap_bio(to_server, to_client, server_side=True),
    }
    for _ in range(_FLIGHTS):
        for end in ends.values():
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends["client" if role == "server" else "server"].getpeercert()


def _load_pair(context: ssl.SSLContext, tls: Tls) -> None:
    try:
        # Without a password of our own, OpenSSL would ask the terminal for that of an encrypted key.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            text = (
                f"tls.key_file: {tls.key_file} is not the key of {tls.cert_file}; give two that were made "
                "together"
            )
        elif not _holds_certificates(tls.cert_file.read_bytes()):
            text = f"tls.cert_file: {tls.cert_file} holds no certificate; write one in PEM form"
        else:
            text = (
                f"tls.key_file: {tls.key_file} holds no key that can be read; write it in PEM form, without "
                "a password"
            )
        raise ConfigError(text) from None


def _load_authorities(context: ssl.SSLContext, tls: Tls) -> None:
    try:
        context.load_verify_locations(tls.ca_file)
    except ssl.SSLError:
        raise ConfigError(
            f"tls.ca_file: {tls.ca_file} holds no certificate; write the authority's in PEM form"
        ) from None


def _holds_certificates(content: bytes) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError):
        return False
    return True


def _read(decoded: Any) -> Certificate:
    names = tuple(str(name) for _, name in decoded.get("subjectAltName", ()))
    return Certificate(names, float(ssl.cert_time_to_seconds(decoded["notAfter"])))


def _explain(tls: Tls, role: Role, host: str | None, error: ssl.SSLCertVerificationError) -> str:
    where = f"tls.cert_file: {tls.cert_file}"
    if error.verify_code == _EXPIRED:
        return f"{where} has expired{_when(tls, role)}; put a renewed certificate in its place"
    if error.verify_code == _NOT_YET_VALID:
        return f"{where} is not valid yet; set this machine's clock, or make the certificate again"
    if error.verify_code == _WRONG_PURPOSE:
        return f"{where} may not be used as a {role}; let its key usages be both server auth and client auth"
    if error.verify_code in _WRONG_NAME:
        names = ", ".join(_read(_shake(tls, role, None, ssl.VERIFY_X509_PARTIAL_CHAIN)).names) or "nobody"
        return (
            f"{where} names {names}, not {host}; make one that has {host} among its subject alternative names"
        )
    return (
        f"{where} is not signed by an authority in {tls.ca_file} ({error.verify_message}); put the "
        "certificate of the authority that signed it there, beside those of the peers"
    )


def _when(tls: Tls, role: Role) -> str:
    """Says when the certificate expired; nothing where it is one of its issuers that did."""
    not_after = _read(_shake(tls, role, None, ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)).not_after
    if not_after > time.time():
        return ", or rather one of its issuers in that file or in tls.ca_file has"
    return f" on {time.strftime('%Y-%m-%d at %H:%M UTC', time.gmtime(not_after))}"
