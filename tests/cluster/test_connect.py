from pathlib import Path

import pytest
from tests.cluster.control_plane import write_kubeconfig

from pilothouse.cluster.api import Api
from pilothouse.cluster.connect import connect
from pilothouse.cluster.kinds import POD
from pilothouse.errors import ConfigError, PermissionDeniedError, UnavailableError


def test_a_kubeconfig_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"/nowhere/config.*--kubeconfig"):
        connect(kubeconfig=Path("/nowhere/config"))


def test_a_machine_without_any_kubeconfig_is_told_how_to_name_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match=r"no cluster is known here.*set KUBECONFIG"):
        connect()


@pytest.mark.parametrize("content", ["{", "[]", "kind: Config", "clusters: 3", ""])
def test_a_file_that_is_no_kubeconfig_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    file = tmp_path / "config"
    file.write_text(content)
    with pytest.raises(ConfigError, match="cannot use kubeconfig") as caught:
        connect(kubeconfig=file)
    assert "\n" not in str(caught.value)


def test_an_unknown_context_is_refused_with_those_there_are(api: Api, tmp_path: Path) -> None:
    file = write_kubeconfig(
        tmp_path / "config", server=api.server, authority=Path(str(api.configuration.ssl_ca_cert)), user={}
    )
    with pytest.raises(ConfigError, match=r"no context 'prod'; it has: test"):
        connect(kubeconfig=file, context="prod")
    assert connect(kubeconfig=file, context="test", namespace="elsewhere").namespace == "elsewhere"


def test_a_context_that_is_named_needs_no_current_one(api: Api, tmp_path: Path) -> None:
    authority = Path(str(api.configuration.ssl_ca_cert))
    file = write_kubeconfig(tmp_path / "config", server=api.server, authority=authority, user={})
    file.write_text(file.read_text().replace("current-context: test", "current-context: gone"))
    assert connect(kubeconfig=file, context="test").namespace == "default"
    with pytest.raises(ConfigError, match="gone"):
        connect(kubeconfig=file)


def test_the_namespace_is_the_contexts_own(api: Api, tmp_path: Path) -> None:
    file = write_kubeconfig(
        tmp_path / "config",
        server=api.server,
        authority=Path(str(api.configuration.ssl_ca_cert)),
        user={},
        namespace="rlhf",
    )
    assert connect(kubeconfig=file).namespace == "rlhf"


def test_an_api_server_that_is_not_there_is_named_with_what_to_check(tmp_path: Path) -> None:
    authority = tmp_path / "ca.crt"
    authority.touch()
    file = write_kubeconfig(tmp_path / "config", server="http://127.0.0.1:1", authority=authority, user={})
    with pytest.raises(UnavailableError, match=r"cannot reach the API server http://127.0.0.1:1: .*refused"):
        connect(kubeconfig=file).list(POD)


def test_a_server_whose_certificate_another_authority_signed_is_refused(api: Api, tmp_path: Path) -> None:
    import trustme

    other = tmp_path / "other.crt"
    trustme.CA().cert_pem.write_to_path(other)
    file = write_kubeconfig(tmp_path / "config", server=api.server, authority=other, user={})
    with pytest.raises(ConfigError, match=r"certificate of https://.* is refused: .*certificate-authority"):
        connect(kubeconfig=file).list(POD)


def test_credentials_that_the_server_does_not_know_are_told_from_missing_rights(
    api: Api, tmp_path: Path
) -> None:
    file = write_kubeconfig(
        tmp_path / "config",
        server=api.server,
        authority=Path(str(api.configuration.ssl_ca_cert)),
        user={"token": "stale"},
    )
    with pytest.raises(PermissionDeniedError, match=r"does not know these credentials; log in again"):
        connect(kubeconfig=file).list(POD)
