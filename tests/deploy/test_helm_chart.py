"""
The Helm chart renders valid objects for each set of values in `ci/`.

`ccproxy export kubernetes` writes the same objects without Helm.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ccproxy import __version__
from ccproxy.cli.containers.container_entry import container_entry
from ccproxy.cli.containers.kubernetes_objects import helm_values, kubernetes_objects
from ccproxy.config.fleet import Entry
from ccproxy.config.settings import HEADER_PREFIX, NAMES, REDIS_URL, is_secret_setting
from tests.cli.conftest import command
from tests.fleet import ROOT

yaml = pytest.importorskip("yaml")

CHART = ROOT / "deploy/helm/ccproxy"
CUSTOM = {"ServiceMonitor"}
"""Kinds of custom resources, which Kubernetes has no schema for."""
ENV = """\
PROVIDER=openai
PROVIDER_BASE_URL=https://llm.example.com:8443/v1
PROVIDER_API_KEY=sk-hidden
REDIS_URL=redis://:hidden@redis:6390/0
UPSTREAM_PROXY=http://proxy:3128
DRAIN_TIMEOUT=90.5
"""


def render(values: dict[str, Any], name: str = "demo") -> list[dict[str, Any]]:
    helm = pytest.importorskip("helm_python", reason="helm-python-sdk: make test-containers")
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values=values, name=name)
    return [doc for text in files.values() for doc in yaml.safe_load_all(text) if doc]


def validate(documents: list[dict[str, Any]]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="make test-containers")
    for document in documents:
        if document["kind"] not in CUSTOM:
            validator.validate(document, "1.37", strict=True)


def exported(folder: Path, *labels: str) -> str:
    """Return the output of `ccproxy export kubernetes` for two entries."""
    (folder / "ccproxy.toml").write_text('proxies = ["8081:a.env:Kimi-K3", "8082:a.env:GLM_5.2"]')
    (folder / "a.env").write_text(ENV)
    (folder / "a.env").chmod(0o600)
    words = command("export", "kubernetes", *labels)
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    assert "hidden" not in done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("file", sorted((CHART / "ci").glob("*.yaml")), ids=lambda file: file.stem)
def test_rendered_objects_are_valid(file):
    documents = render(yaml.safe_load(file.read_text()))
    validate(documents)
    kinds = {document["kind"] for document in documents}
    assert kinds >= {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(
            {"existingSecret": "x", "env": {"PROVIDER_API_KEY": "sk-x"}}, id="a provider key in env"
        ),
        pytest.param(
            {"existingSecret": "x", "env": {"OIDC_CLIENT_SECRET": "x"}}, id="a client secret in env"
        ),
        pytest.param({"env": {"PROVIDER": "kimi"}}, id="no existingSecret"),
        pytest.param({"existingSecret": "x", "replica": 2}, id="a misspelt field"),
    ],
)
def test_invalid_values_are_rejected(entry):
    with pytest.raises(Exception, match="schema"):
        render({"entries": {"kimi": entry}})


def test_the_schema_refuses_the_settings_that_the_export_moves_to_secrets():
    schema = json.loads((CHART / "values.schema.json").read_text())
    entry = schema["properties"]["entries"]["additionalProperties"]
    pattern = re.compile(entry["properties"]["env"]["propertyNames"]["not"]["pattern"])
    names = {*NAMES, f"{HEADER_PREFIX}X_TOKEN_OF_TEAM"}
    refused = {name for name in names if pattern.search(name)}
    assert refused == {name for name in names if is_secret_setting(name)} | {REDIS_URL.name}


def test_the_monitor_scrapes_the_metrics_port():
    values = yaml.safe_load((CHART / "ci/monitored-values.yaml").read_text())
    objects = {one["kind"]: one for one in render(values)}
    assert objects["ConfigMap"]["data"]["METRICS"] == "0.0.0.0:9464"
    (endpoint,) = objects["ServiceMonitor"]["spec"]["endpoints"]
    ports = {port["name"]: port for port in objects["Service"]["spec"]["ports"]}
    assert ports[endpoint["port"]]["targetPort"] == "metrics"
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    assert {"name": "metrics", "containerPort": 9464} in pod["containers"][0]["ports"]
    assert pod["terminationGracePeriodSeconds"] == 0 + 1 + 20, "the entry's own drain"


def test_the_chart_has_this_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__


def test_exported_objects_are_valid(tmp_path):
    text = exported(tmp_path)
    documents = list(yaml.safe_load_all(text))
    assert [one["metadata"]["name"] for one in documents[::5]] == [
        "ccproxy-kimi-k3",
        "ccproxy-glm-5-2",
    ]
    validate(documents)
    policy = next(one for one in documents if one["kind"] == "NetworkPolicy")
    ports = {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 443, 8443, 6390, 3128}


def test_kubectl_can_build_the_exported_objects(tmp_path):
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    (tmp_path / "fleet.yaml").write_text(exported(tmp_path, "kimi-k3"))
    (tmp_path / "kustomization.yaml").write_text("resources: [fleet.yaml]\nnamespace: team\n")
    done = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert {one["metadata"]["namespace"] for one in built} == {"team"}


def test_chart_and_export_produce_the_same_objects(tmp_path):
    (tmp_path / "a.env").write_text(ENV)
    entry = container_entry(Entry(port=1, env_file=tmp_path / "a.env", label="Kimi K3"))

    def comparable(objects: Any) -> dict[str, Any]:
        by_kind = {one["kind"]: one for one in objects}
        by_kind["Deployment"]["spec"]["template"]["metadata"].pop("annotations")
        return by_kind

    rendered = comparable(render(dict(helm_values([entry])), name="ccproxy"))
    assert comparable(kubernetes_objects([entry])) == rendered
