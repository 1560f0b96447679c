"""
The Kubernetes objects of entries, as the Helm chart renders them with its default values.

`deploy/helm/ccproxy/templates/entry.yaml` explains the reasons; a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from typing import Any

from ccproxy import __version__
from ccproxy.cli.containers.compose_file import IMAGE
from ccproxy.cli.containers.container_entry import ContainerEntry

DRAIN_DELAY, DRAIN_TIMEOUT = "10", "300"
_GRACE = 20
"""Seconds after both parts of the drain, for the last responses."""
_USER = 10001
_DNS = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]

Manifest = Mapping[str, Any]


def kubernetes_objects(entries: Iterable[ContainerEntry]) -> Iterator[Manifest]:
    """Yield the objects of *entries*; secrets are referred to by name."""
    for entry in entries:
        yield from _objects(entry)


def helm_values(entries: Iterable[ContainerEntry]) -> Manifest:
    """Return values for the Helm chart; secrets are referred to by name."""
    rows = tuple(entries)
    ports = sorted({port for entry in rows for port in entry.ports})
    return {
        "networkPolicy": {"egressPorts": ports},
        "entries": {
            entry.name: {"existingSecret": entry.secret_name, "env": dict(entry.settings)}
            for entry in rows
        },
    }


def _objects(entry: ContainerEntry) -> Iterator[Manifest]:
    drain = {"DRAIN_DELAY": DRAIN_DELAY, "DRAIN_TIMEOUT": DRAIN_TIMEOUT}
    settings = {**drain, **entry.settings}
    labels = {
        "app.kubernetes.io/name": "ccproxy",
        "app.kubernetes.io/instance": "ccproxy",
        "ccproxy/entry": entry.name,
    }
    metadata = {"name": f"ccproxy-{entry.name}", "labels": labels}
    yield _object("v1", "ConfigMap", metadata, data=settings)
    yield _object(
        "apps/v1",
        "Deployment",
        metadata,
        spec={
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "minReadySeconds": 5,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "selector": {"matchLabels": labels},
            "template": {
                # A change of the settings replaces the pods.
                "metadata": {"labels": labels, "annotations": {"checksum/config": _sum(settings)}},
                "spec": _pod(entry, labels),
            },
        },
    )
    port = {"name": "http", "port": 80, "targetPort": "http", "appProtocol": "http"}
    yield _object("v1", "Service", metadata, spec={"selector": labels, "ports": [port]})
    yield _object(
        "policy/v1",
        "PodDisruptionBudget",
        metadata,
        spec={
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": labels},
        },
    )
    ports = [{"port": number, "protocol": "TCP"} for number in entry.ports]
    yield _object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        metadata,
        spec={
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"port": "http"}]}],
            "egress": [{"ports": _DNS}, {"ports": ports}],
        },
    )


def _pod(entry: ContainerEntry, labels: Mapping[str, str]) -> Mapping[str, Any]:
    drain = entry.drain_seconds(delay=DRAIN_DELAY, timeout=DRAIN_TIMEOUT)
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": drain + _GRACE,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": labels},
            }
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
        "containers": [_container(entry)],
        "volumes": [
            {"name": "state", "emptyDir": {"sizeLimit": "256Mi"}},
            {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        ],
    }


def _container(entry: ContainerEntry) -> Mapping[str, Any]:
    return {
        "name": "ccproxy",
        "image": f"{IMAGE}:{__version__}",
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": 8080}],
        "envFrom": [
            {"configMapRef": {"name": f"ccproxy-{entry.name}"}},
            {"secretRef": {"name": entry.secret_name}},
        ],
        "startupProbe": {**_probe("/livez"), "periodSeconds": 1, "failureThreshold": 60},
        "readinessProbe": {
            **_probe("/readyz"),
            "periodSeconds": 2,
            "failureThreshold": 2,
            "timeoutSeconds": 2,
        },
        "livenessProbe": {
            **_probe("/livez"),
            "periodSeconds": 10,
            "failureThreshold": 6,
            "timeoutSeconds": 5,
        },
        "resources": {"requests": {"cpu": "100m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "state", "mountPath": "/var/lib/ccproxy"},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the container
        ],
    }


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "http"}}


def _object(version: str, kind: str, metadata: Manifest, **content: Mapping[str, Any]) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def _sum(settings: Mapping[str, str]) -> str:
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
