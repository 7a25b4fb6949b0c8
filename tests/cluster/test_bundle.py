import base64
import json
import stat
import tarfile
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cluster.conftest import Account
from tests.cluster.fake_api import Answer, Query, fake_api, listing
from tests.cluster.installed import CONFIG, add_job, add_pod, add_workload, install, metadata, pod_spec

from pilothouse.cli.exits import Exit
from pilothouse.cluster.api import Api
from pilothouse.cluster.bundling import Bundle
from pilothouse.cluster.kinds import CONFIG_MAP, EVENT, POD, SECRET, Object
from pilothouse.cluster.redaction import clean_object, clean_text
from pilothouse.cluster.release import Release, find_release

SECRETS = ("hunter2", "s3cr3t-value", "env-value", "private prompt")


def opened(file: Path) -> dict[str, str]:
    """Returns the content of every file in a bundle by its path below the root."""
    with tarfile.open(file) as archive:
        found = {}
        for entry in archive:
            content = archive.extractfile(entry)
            assert content is not None
            found[entry.name.partition("/")[2]] = content.read().decode()
    return found


@pytest.fixture
def here(api: Api, kubeconfig: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """A release with secrets everywhere."""
    monkeypatch.chdir(tmp_path)
    database = 'database = "postgresql+psycopg://people:hunter2@db.example.org/feedback"'
    install(api, config=CONFIG.replace(CONFIG.split("[feedback]\n")[1].split("\n")[0], database))
    secret = metadata("demo-client-tls", "client")
    secret["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": json.dumps({"data": {"k": "s3cr3t-value"}})
    }
    value = base64.b64encode(b"s3cr3t-value").decode()
    api.create(SECRET, {"metadata": secret, "data": {"tls.key": value}})
    api.create(
        SECRET,
        {"metadata": metadata("sh.helm.release.v1.demo.v1"), "stringData": {"release": "s3cr3t-value"}},
    )
    data = {"prompts.jsonl": "private prompt"}
    api.create(CONFIG_MAP, {"metadata": metadata("demo-data", "trainer"), "data": data})
    spec = pod_spec("policy")
    spec["containers"][0]["env"] = [
        {"name": "ANYTHING", "value": "env-value"},
        {"name": "FROM", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]
    spec["containers"][0]["args"] = ["--token=s3cr3t-value"]
    api.create(POD, {"metadata": metadata("demo-policy-a", "policy"), "spec": spec})
    add_workload(api, "policy")
    add_job(api)
    add_job(api, "a-run")
    for name in ("demo-policy-a", "a-run-xyz", "somebody-else", "demo-2-policy-a"):
        reference = {"kind": "Pod", "name": name, "namespace": api.namespace}
        event = {"metadata": {"name": f"{name}.1"}, "involvedObject": reference, "message": "pulled"}
        api.create(EVENT, event | {"lastTimestamp": "2026-01-01T00:00:00Z"})
    return ["--kubeconfig", kubeconfig, "--namespace", api.namespace]


def test_a_bundle_has_everything_and_no_secret(run: Run, api: Api, here: list[object]) -> None:
    ran = run("cluster", "bundle", *here, "--out", "b.tar.gz", "--json")
    assert ran.status == Exit.OK, ran.err
    assert stat.S_IMODE(Path("b.tar.gz").stat().st_mode) == 0o600
    found = opened(Path("b.tar.gz"))
    assert {"versions.json", "status.json", "pilothouse.toml", "events.json", "nodes.json"} <= found.keys()
    assert {
        "objects/secrets/demo-client-tls.json",
        "objects/pods/demo-policy-a.json",
        "objects/deployments/demo-policy.json",
        "objects/jobs/demo-trainer-1.json",
    } <= found.keys()
    for path, content in found.items():
        for secret in SECRETS:
            assert secret not in content, path
            assert base64.b64encode(secret.encode()).decode() not in content, path
    assert "postgresql+psycopg://(removed)@db.example.org/feedback" in found["pilothouse.toml"]
    assert "total_steps = 20" in found["pilothouse.toml"]
    (variables,) = json.loads(found["objects/pods/demo-policy-a.json"])["spec"]["containers"]
    assert variables["env"][1]["valueFrom"]["secretKeyRef"]["name"] == "s"
    events = json.loads(found["events.json"])
    assert sorted(event["involvedObject"]["name"] for event in events) == ["a-run-xyz", "demo-policy-a"]
    assert json.loads(found["versions.json"])["server"]["gitVersion"]


def test_a_bundle_never_replaces_a_file(run: Run, here: list[object]) -> None:
    Path("b.tar.gz").write_text("mine")
    ran = run("cluster", "bundle", *here, "--out", "b.tar.gz")
    assert ran.status == Exit.USAGE
    assert Path("b.tar.gz").read_text() == "mine"


def test_what_may_not_be_read_is_listed_and_the_rest_is_there(
    run: Run, here: list[object], account: Account
) -> None:
    mine = account({"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["get", "list"]})
    ran = run("cluster", "bundle", "--kubeconfig", mine, "--out", "b.tar.gz")
    assert ran.status == Exit.OK, ran.err
    assert "left out: jobs: " in ran.err
    found = opened(Path("b.tar.gz"))
    assert "may not list jobs" in found["problems.txt"]
    assert "objects/deployments/demo-policy.json" in found


def test_an_interrupted_bundle_leaves_no_half_of_one(api: Api, here: list[object]) -> None:
    class Interrupted(Api):
        def read(self, *_: object) -> Object:
            raise KeyboardInterrupt

    interrupted = Interrupted(api.configuration, api.namespace)
    with pytest.raises(KeyboardInterrupt):
        Bundle(interrupted, find_release(api), None).write(Path("b.tar.gz"))
    assert not Path("b.tar.gz").exists()


def test_of_a_long_log_the_end_is_kept(tmp_path: Path) -> None:
    numbers = range(700_000)
    log = "".join(f"2026-01-01T00:00:00Z {number:09}\n" for number in numbers) + "now token=hunter2\n"
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "policy"}]}}

    def answer(query: Query) -> Answer:
        if "container" in query:
            lines = log.encode()
            return 200, lines[: int(query.get("limitBytes", len(lines)))]
        return listing(1, pod) if "limit" in query else (404, b"")

    with fake_api(answer) as api:
        Bundle(api, Release("demo", "demo", "rlhf"), None).write(tmp_path / "b.tar.gz")
    lines = opened(tmp_path / "b.tar.gz")["logs/p/policy.log"].splitlines()
    assert lines[-2:] == ["2026-01-01T00:00:00Z 000699999", "now token=(removed)"]
    assert 100_000 < len(lines) < len(numbers)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("postgresql://u:pw@h/db", "postgresql://(removed)@h/db"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer (removed)"),
        ('api_key = "x y", n = 1', "api_key = (removed), n = 1"),
        ('{"token": "abc", "tokens": 12}', '{"token": (removed), "tokens": 12}'),
        ("max_new_tokens = 48\nstop_token_ids = [1]", "max_new_tokens = 48\nstop_token_ids = [1]"),
        ('tokenizer = "tiny"', 'tokenizer = "tiny"'),
        (r'password = "a\"hunter2"', "password = (removed)"),
        ('password = """hunter\n2"""\nn = 1', "password = (removed)\nn = 1"),
        ('token = ["x", "hunter2"]\nn = [1]', "token = (removed)\nn = [1]"),
        ("secret_key=hunter2", "secret_key=(removed)"),
        ("Authorization: Basic aHVudGVyMg==", "Authorization: Basic (removed)"),
        ("postgresql://u:p@hunter2@h/db", "postgresql://(removed)@h/db"),
        (r'"{\"password\": \"hunter 2\"}"', r'"{\"password\": (removed)}"'),
        ("run --api-key hunter2 --all", "run --api-key (removed) --all"),
        ("the token expired", "the token expired"),
        ("-----BEGIN PRIVATE KEY-----\nAB\nCD", "-----BEGIN PRIVATE KEY----- (removed)"),
        ("http://host:80/path?x=1", "http://host:80/path?x=1"),
        (
            "-----BEGIN PRIVATE KEY-----\nAB\n-----END PRIVATE KEY-----\n",
            "-----BEGIN PRIVATE KEY----- (removed)\n",
        ),
    ],
)
def test_passwords_tokens_and_keys_are_taken_out_of_texts_and_nothing_else(text: str, kept: str) -> None:
    assert clean_text(text) == kept


def test_secrets_are_taken_out_of_objects_by_the_names_they_have() -> None:
    found = {
        "metadata": {"name": "x", "annotations": {"example.com/token": "hunter2"}},
        "password": "hunter2",
        "token": ["x", "hunter2"],
        "args": ["--token", "hunter2", "--max-new-tokens", "48"],
        "httpHeaders": [{"name": "X", "value": "hunter2"}],
        "secret": {"secretName": "s"},
        "automountServiceAccountToken": False,
    }
    assert clean_object(found) == {
        "metadata": {"name": "x", "annotations": {"example.com/token": "(removed)"}},
        "password": "(removed)",
        "token": ["(removed)", "(removed)"],
        "args": ["--token", "(removed)", "--max-new-tokens", "48"],
        "httpHeaders": [{"name": "X", "value": "(removed)"}],
        "secret": {"secretName": "s"},
        "automountServiceAccountToken": False,
    }


@pytest.mark.parametrize("part", ["a.b-", "token ", "a:// ", "-----BEGIN RSA PRIVATE KEY-----.", '"'])
def test_a_long_text_takes_no_time_that_anybody_notices(part: str) -> None:
    """What took the square of its length would never end here."""
    text = part * (2**20 // len(part))
    assert clean_text(text).endswith(part[-1])


def test_a_pod_without_logs_is_no_problem(run: Run, api: Api, here: list[object]) -> None:
    add_pod(api, "reward", "demo-reward-a")
    ran = run("cluster", "bundle", *here, "--out", "b.tar.gz", "--json")
    assert not [problem for problem in ran.json["problems"] if "log of demo-reward-a" in problem]
