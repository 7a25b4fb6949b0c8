"""Mutual TLS of the servers."""

import grpc

from pilothouse.tls import Certificates, Pem


def credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Returns what a secure port is opened with: it demands and verifies a client's certificate.

    Before every handshake the files are looked at, so that a replaced certificate or authority holds for the
    next connection. Open connections go on.
    """
    served = certificates.current()

    def replaced() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        newest = certificates.current()
        if newest is served:
            return None  # gRPC goes on with what it has
        served = newest
        return _configuration(newest)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(served),
        replaced,  # type: ignore[arg-type]  # its types do not know of None
        require_client_authentication=True,
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificates)], pem.authorities)
