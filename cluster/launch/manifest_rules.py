"""This project's rules for Kubernetes manifests with a Ray cluster; Kubernetes is not contacted."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cluster.launch.fault import Fault, mapping, sequence

_RAY_KINDS = ("RayCluster", "RayJob")
_OPENING_KINDS = ("Ingress", "Gateway", "HTTPRoute", "Route")
_OPEN_SERVICES = ("LoadBalancer", "NodePort", "ExternalName")
_POLICY_API = "networking.k8s.io/v1"


def manifest_faults(documents: Sequence[Mapping[str, Any]], ray_version: str) -> list[Fault]:
    """All faults in the documents of one file.

    Args:
        documents: YAML documents of the file.
        ray_version: Ray version pinned in constraints.txt.
    """
    found: list[Fault] = []
    policies = [document for document in documents if document.get("kind") == "NetworkPolicy"]
    clusters = [document for document in documents if document.get("kind") in _RAY_KINDS]
    if not clusters:
        found.append(Fault("kind", f"a document must be one of {', '.join(_RAY_KINDS)}"))
    for document in documents:
        found += _exposed(document)
    for document in clusters:
        where, spec = str(document["kind"]), mapping(document.get("spec"))
        if document.get("apiVersion") != "ray.io/v1":
            found.append(
                Fault(f"{where}.apiVersion", f"must be ray.io/v1, is {document.get('apiVersion')}")
            )
        if document["kind"] == "RayJob":
            found += _job_ends(spec)
            place, cluster = f"{where}.spec.rayClusterSpec", mapping(spec.get("rayClusterSpec"))
        else:
            place, cluster = f"{where}.spec", spec
        found += _cluster_faults(place, cluster, ray_version)
        found += _policy_faults(
            place, [*pod_templates(place, cluster), *_submitter(spec)], policies
        )
    for policy in policies:
        found += _closed_policy(policy)
    return found


def pod_templates(place: str, cluster: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The pod templates of the head and of every worker group, each with its key."""
    found = [(f"{place}.headGroupSpec", mapping(cluster.get("headGroupSpec")))]
    for index, group in enumerate(sequence(cluster.get("workerGroupSpecs"))):
        found.append((f"{place}.workerGroupSpecs[{index}]", mapping(group)))
    return [(f"{where}.template", mapping(group.get("template"))) for where, group in found]


def _submitter(spec: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    template = mapping(spec.get("submitterPodTemplate"))
    return [("RayJob.spec.submitterPodTemplate", template)] if template else []


def _containers(template: Mapping[str, Any]) -> Sequence[Any]:
    return sequence(mapping(template.get("spec")).get("containers"))


def _cluster_faults(place: str, cluster: Mapping[str, Any], ray_version: str) -> Iterator[Fault]:
    if str(cluster.get("rayVersion")) != ray_version:
        yield Fault(
            f"{place}.rayVersion",
            f"must be {ray_version} as in constraints.txt, but is {cluster.get('rayVersion')}",
        )
    templates = pod_templates(place, cluster)
    yield from _token_auth(place, cluster, templates)
    head = mapping(cluster.get("headGroupSpec"))
    if head.get("serviceType", "ClusterIP") != "ClusterIP":
        yield Fault(
            f"{place}.headGroupSpec.serviceType",
            f"must be ClusterIP, reached by `kubectl port-forward`, but is {head['serviceType']}",
        )
    for where, template in templates:
        yield from _pod_faults(where, template, ray_version)
    for index, group in enumerate(sequence(cluster.get("workerGroupSpecs"))):
        if "maxReplicas" not in mapping(group):
            yield Fault(
                f"{place}.workerGroupSpecs[{index}].maxReplicas",
                "must be set: it bounds what the cluster costs",
            )


def _token_auth(
    place: str, cluster: Mapping[str, Any], templates: Sequence[tuple[str, Mapping[str, Any]]]
) -> Iterator[Fault]:
    """Token by KubeRay's option or, before KubeRay 1.5.1, by every container's environment."""
    mode = mapping(cluster.get("authOptions")).get("mode")
    environments = []
    for where, template in templates:
        for container in _containers(template):
            variables = {
                str(mapping(entry).get("name")): mapping(entry)
                for entry in sequence(mapping(container).get("env"))
            }
            environments.append(variables)
            if "value" in variables.get("RAY_AUTH_TOKEN", {}):
                yield Fault(
                    f"{where}.spec.containers.env",
                    "a token must not be in the file; take it from a secret",
                )
    by_environment = bool(environments) and all(
        variables.get("RAY_AUTH_MODE", {}).get("value") == "token"
        and "valueFrom" in variables.get("RAY_AUTH_TOKEN", {})
        for variables in environments
    )
    if mode != "token" and not (mode is None and by_environment):
        yield Fault(
            f"{place}.authOptions.mode",
            f"must be token, but is {mode or 'not set'}: without a token, anyone in the pods' "
            "network can run code",
        )


def _pod_faults(where: str, template: Mapping[str, Any], ray_version: str) -> Iterator[Fault]:
    spec = mapping(template.get("spec"))
    containers = _containers(template)
    if not containers:
        yield Fault(f"{where}.spec.containers", "must name at least one container")
    for index, container in enumerate(containers):
        place = f"{where}.spec.containers[{index}]"
        image = str(mapping(container).get("image", ""))
        tag = image.rpartition("/")[2].partition(":")[2]
        if not re.search(rf"(?<![\d.]){re.escape(ray_version)}(?![\d.])", tag):
            yield Fault(
                f"{place}.image",
                f"the tag must contain the Ray version of constraints.txt, {ray_version}, but the "
                f"image is {image or 'not set'}; write NAME:ray-{ray_version}",
            )
        limits = mapping(mapping(mapping(container).get("resources")).get("limits"))
        if not {"cpu", "memory"} <= limits.keys():
            yield Fault(
                f"{place}.resources.limits", "must set cpu and memory, by which Ray schedules"
            )
        contexts = (spec.get("securityContext"), mapping(container).get("securityContext"))
        if not any(mapping(context).get("runAsNonRoot") is True for context in contexts):
            yield Fault(f"{place}.securityContext.runAsNonRoot", "must be true")


def _job_ends(spec: Mapping[str, Any]) -> Iterator[Fault]:
    if not spec.get("entrypoint"):
        yield Fault("RayJob.spec.entrypoint", "must be the command of the job")
    if spec.get("shutdownAfterJobFinishes") is not True:
        yield Fault(
            "RayJob.spec.shutdownAfterJobFinishes",
            "must be true, or the pods keep running and costing after the job",
        )
    if "activeDeadlineSeconds" not in spec:
        yield Fault("RayJob.spec.activeDeadlineSeconds", "must be set: it bounds what a job costs")


def _exposed(document: Mapping[str, Any]) -> Iterator[Fault]:
    kind, spec = document.get("kind"), mapping(document.get("spec"))
    if kind in _OPENING_KINDS:
        yield Fault(f"{kind}", "opens the dashboard to others; use `kubectl port-forward`")
    if kind == "Service" and spec.get("type") in _OPEN_SERVICES:
        yield Fault("Service.spec.type", f"must be ClusterIP, but is {spec['type']}")
    if kind == "Secret" and (document.get("data") or document.get("stringData")):
        yield Fault("Secret", "a token must not be in a file; let KubeRay create it")


def _policy_faults(
    place: str,
    templates: Sequence[tuple[str, Mapping[str, Any]]],
    policies: Sequence[Mapping[str, Any]],
) -> Iterator[Fault]:
    """A NetworkPolicy for ingress must select every pod that exposes Ray's ports."""
    for where, template in templates:
        labels = mapping(mapping(template.get("metadata")).get("labels"))
        if not any(_selects(policy, labels) for policy in policies):
            yield Fault(
                f"{where}.metadata.labels",
                "no NetworkPolicy in this file selects these pods, so every pod of the Kubernetes "
                "cluster reaches them; give them the labels that a policy selects",
            )


def _selects(policy: Mapping[str, Any], labels: Mapping[str, Any]) -> bool:
    """Whether a policy certainly selects pods; expressions are not evaluated, and count as no."""
    selector = mapping(mapping(policy.get("spec")).get("podSelector"))
    wanted = mapping(selector.get("matchLabels"))
    has_labels = all(labels.get(name) == value for name, value in wanted.items())
    return has_labels and not selector.get("matchExpressions")


def _closed_policy(policy: Mapping[str, Any]) -> Iterator[Fault]:
    spec = mapping(policy.get("spec"))
    if policy.get("apiVersion") != _POLICY_API:
        yield Fault(
            "NetworkPolicy.apiVersion", f"must be {_POLICY_API}, is {policy.get('apiVersion')}"
        )
    if "Ingress" not in sequence(spec.get("policyTypes")):
        yield Fault("NetworkPolicy.spec.policyTypes", "must have Ingress, or any traffic is let in")
    for index, rule in enumerate(sequence(spec.get("ingress"))):
        where = f"NetworkPolicy.spec.ingress[{index}].from"
        peers = sequence(mapping(rule).get("from"))
        if not peers:
            yield Fault(where, "admits everyone if left out or empty; name the pods")
        for peer in peers:
            selector = mapping(mapping(peer).get("podSelector"))
            if not (selector.get("matchLabels") or selector.get("matchExpressions")):
                yield Fault(
                    where, f"must name pods by their labels, but admits {dict(mapping(peer))}"
                )
