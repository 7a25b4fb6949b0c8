"""Looks at this process's certificate, and at what a service makes of it."""

import socket
import ssl
import stat
import time
from collections.abc import Iterator

from pilothouse.cli.doctor.findings import Finding, ok
from pilothouse.errors import ConfigError
from pilothouse.tls import Certificates, Tls

_DAY_SECONDS = 86_400
_SOON_DAYS = 14
_WAIT_SECONDS = 2.0


def check_tls(tls: Tls) -> Iterator[Finding]:
    """Looks at the certificate, its key and the authorities.

    Args:
        tls: Section ``tls``.
    """
    try:
        certificate = Certificates(tls, "server", "client").certificate
    except ConfigError as error:
        detail, _, mend = str(error).rpartition("; ")  # every message of ours ends with what mends it
        yield Finding("tls", "error", detail, mend)
        return
    days = (certificate.not_after - time.time()) / _DAY_SECONDS
    until = time.strftime("%Y-%m-%d", time.gmtime(certificate.not_after))
    names = ", ".join(certificate.names) or "nobody"
    detail = f"{tls.cert_file}: {days:.0f} days left, until {until}; for {names}"
    if days < _SOON_DAYS:
        mend = "put a renewed certificate and its key in their place; running processes take them up"
        yield Finding("tls", "warning", detail, mend)
    else:
        yield ok("tls", detail)
    if tls.key_file.stat().st_mode & stat.S_IROTH:
        yield Finding("tls key", "warning", f"everybody may read {tls.key_file}", f"chmod o= {tls.key_file}")


def explain(target: str, tls: Tls | None) -> tuple[str, str]:
    """Returns what keeps this process and a service from agreeing on TLS, and what mends it; else two empty.

    gRPC only learns that the service hung up. A handshake of our own tells how far it got.

    Args:
        target: ``host:port``.
        tls: This process's identity.
    """
    host, _, port = target.rpartition(":")
    host = host.strip("[]")
    name = (tls and tls.server_name) or host
    try:
        context = _context(tls)
    except (ssl.SSLError, OSError):
        return "", ""  # told of already
    try:
        with (
            socket.create_connection((host, int(port)), _WAIT_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name) as secure,
        ):
            if tls is None:
                return (
                    "it speaks TLS, this process does not",
                    "give this process a certificate: section [tls]",
                )
            if not secure.recv(1):
                return (
                    f"it refuses the certificate {tls.cert_file}",
                    "its log says why; most often no authority in its tls.ca_file has signed it",
                )
    except ssl.SSLCertVerificationError as error:
        return (
            f"its certificate is refused here: {error.verify_message}",
            "give the service a certificate that is valid, names "
            f"{name} and is signed by an authority in {tls.ca_file if tls else 'tls.ca_file'}",
        )
    except ssl.SSLError as error:
        if error.reason == "WRONG_VERSION_NUMBER" and tls is not None:
            return "it does not speak TLS, this process does", "give both the same section [tls], or neither"
    except OSError:
        pass  # not a matter of TLS
    return "", ""


def _context(tls: Tls | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if tls is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
        context.load_verify_locations(tls.ca_file)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
