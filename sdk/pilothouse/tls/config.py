"""Settings of a process's identity."""

from pathlib import Path

from pilothouse.config import Config


class Tls(Config):
    """Mutual TLS: with this section every server of a process demands a certificate, every client shows one.

    The files are PEM and may be replaced while the process runs. Without the section nothing is encrypted.
    """

    cert_file: Path
    """This process's certificate, and behind it those of its issuers up to one in ``ca_file``."""
    key_file: Path
    """The certificate's private key, without a password."""
    ca_file: Path
    """Certificates of the authorities that signed this process's certificate and those of its peers."""
    server_name: str | None = None
    """Name that servers' certificates must have; None for the host of the address that is called. For
    addresses that no certificate names, such as the local end of a port that is forwarded."""
