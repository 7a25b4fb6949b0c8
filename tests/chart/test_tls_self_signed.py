"""templates/tls-self-signed.yaml."""

import base64
import ssl
import threading
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from .rendering import COMPONENTS, FULL_NAME, NAMESPACE, Manifest, Rendered, Renderer


def pem(secret: Manifest, key: str) -> bytes:
    return base64.b64decode(secret["data"][key])


def identities(rendered: Rendered) -> dict[str, Manifest]:
    return {name: rendered.one("Secret", f"{name}-tls") for name in (*COMPONENTS, "client")}


def test_every_component_has_a_certificate_of_one_authority(render: Renderer) -> None:
    rendered = render()
    authority = x509.load_pem_x509_certificate(pem(rendered.one("Secret", "ca"), "tls.crt"))
    for name, secret in identities(rendered).items():
        certificate = x509.load_pem_x509_certificate(pem(secret, "tls.crt"))
        certificate.verify_directly_issued_by(authority)
        assert certificate.subject.rfc4514_string() == f"CN={name}"
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
        assert pem(secret, "ca.crt") == pem(rendered.one("Secret", "ca"), "tls.crt")
        assert secret["type"] == "kubernetes.io/tls"


def test_a_certificate_has_the_names_by_which_the_service_is_called(render: Renderer) -> None:
    rendered = render({"tls": {"extraDnsNames": ["policy.example.org"]}, "clusterDomain": "corp.local"})
    certificate = x509.load_pem_x509_certificate(pem(rendered.one("Secret", "policy-tls"), "tls.crt"))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    policy, weights = f"{FULL_NAME}-policy", f"{FULL_NAME}-weights"
    assert set(names.get_values_for_type(x509.DNSName)) >= {
        f"{policy}.{NAMESPACE}.svc",
        f"{weights}.{NAMESPACE}.svc",
        f"{policy}.{NAMESPACE}.svc.corp.local",
        "localhost",
        "policy.example.org",
    }
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_two_components_shake_hands(render: Renderer, tmp_path: Path) -> None:
    files = {}
    for name in ("policy", "trainer"):
        secret = render().one("Secret", f"{name}-tls")
        for key in ("tls.crt", "tls.key", "ca.crt"):
            files[name, key] = tmp_path / f"{name}-{key}"
            files[name, key].write_bytes(pem(secret, key))
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files["policy", "ca.crt"]))
    server_side.verify_mode = ssl.CERT_REQUIRED
    server_side.load_cert_chain(files["policy", "tls.crt"], files["policy", "tls.key"])
    client_side = ssl.create_default_context(cafile=str(files["trainer", "ca.crt"]))
    client_side.load_cert_chain(files["trainer", "tls.crt"], files["trainer", "tls.key"])

    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    client = client_side.wrap_bio(to_client, to_server, server_hostname=f"{FULL_NAME}-policy.{NAMESPACE}.svc")
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert server.getpeercert()["subject"] == (((("commonName", "trainer")),),)
    assert threading.active_count() >= 1


def test_no_pod_has_the_key_of_the_authority(render: Renderer) -> None:
    for _, pod in render().pods():
        assert f"{FULL_NAME}-ca" not in str(pod)


def test_a_component_mounts_its_own_certificate_where_the_configuration_looks(render: Renderer) -> None:
    rendered = render()
    tls = rendered.config()["tls"]
    for component in COMPONENTS:
        (config,) = [volume for volume in rendered.pod(component)["volumes"] if volume["name"] == "config"]
        (secret,) = [source["secret"] for source in config["projected"]["sources"] if "secret" in source]
        assert secret["name"] == f"{FULL_NAME}-{component}-tls"
        mounted = {f"/etc/pilothouse/{item['path']}" for item in secret["items"]}
        assert mounted == {tls["cert_file"], tls["key_file"], tls["ca_file"]}
        assert config["projected"]["defaultMode"] == 0o440


def test_pods_do_not_change_when_certificates_do(render: Renderer) -> None:
    """Helm makes other ones with each rendering that knows no cluster; processes take replaced files up."""
    one, other = render(), render({"clusterDomain": "cluster.local"})
    assert one.one("Secret", "policy-tls")["data"] != other.one("Secret", "policy-tls")["data"]
    assert dict(one.pods()) == dict(other.pods())


def test_with_other_modes_no_secret_is_made(render: Renderer) -> None:
    for values in ("no-tls", "cert-manager", "own-secret"):
        assert not render(values).all("Secret")
