"""Who this process is to others: its certificate, its key, and the authority that everybody trusts."""

from pilothouse.tls.config import Tls
from pilothouse.tls.files import Certificates, Pem
from pilothouse.tls.process import adopt, configured, own

__all__ = ["Certificates", "Pem", "Tls", "adopt", "configured", "own"]
