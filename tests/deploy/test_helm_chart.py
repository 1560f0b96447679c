"""The Helm chart renders for each set of values in `ci/`, and what it makes is valid."""

from __future__ import annotations

from typing import Any

import pytest

from tests.fleet import ROOT

helm = pytest.importorskip("helm_python", reason="needs helm-python-sdk")
kubernetes_validate = pytest.importorskip("kubernetes_validate")
yaml = pytest.importorskip("yaml")

CHART = ROOT / "deploy/helm/ccproxy"
CUSTOM = {"ServiceMonitor"}
"""Kinds whose schema is not Kubernetes' own."""


def render(values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(values=values, name="demo")
    return [doc for text in files.values() for doc in yaml.safe_load_all(text) if doc]


@pytest.mark.parametrize("file", sorted((CHART / "ci").glob("*.yaml")), ids=lambda file: file.stem)
def test_rendered_objects_are_valid(file):
    documents = render(yaml.safe_load(file.read_text()))
    for document in documents:
        if document["kind"] not in CUSTOM:
            kubernetes_validate.validate(document, "1.37", strict=True)
    kinds = {document["kind"] for document in documents}
    assert kinds >= {"ConfigMap", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"existingSecret": "x", "env": {"PROVIDER_API_KEY": "sk-x"}}, id="a secret"),
        pytest.param({"env": {"PROVIDER": "kimi"}}, id="no secret's name"),
        pytest.param({"existingSecret": "x", "replica": 2}, id="a typo"),
    ],
)
def test_wrong_values_are_refused(entry):
    with pytest.raises(Exception, match="schema"):
        render({"entries": {"kimi": entry}})
