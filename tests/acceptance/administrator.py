"""Who runs a cluster, and applies there what Instar prints: its roles, its account, and its policy."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from instar.providers.kubernetes.kinds import Kind
from kubernetes_author import Author

KINDS = {
    "ServiceAccount": Kind(name="ServiceAccount", plural="serviceaccounts"),
    "Role": Kind(name="Role", plural="roles", group="rbac.authorization.k8s.io"),
    "RoleBinding": Kind(name="RoleBinding", plural="rolebindings", group="rbac.authorization.k8s.io"),
    "ClusterRole": Kind(name="ClusterRole", plural="clusterroles", group="rbac.authorization.k8s.io", namespaced=False),
    "ClusterRoleBinding": Kind(
        name="ClusterRoleBinding", plural="clusterrolebindings", group="rbac.authorization.k8s.io", namespaced=False
    ),
    "ValidatingAdmissionPolicy": Kind(
        name="ValidatingAdmissionPolicy",
        plural="validatingadmissionpolicies",
        group="admissionregistration.k8s.io",
        namespaced=False,
    ),
    "ValidatingAdmissionPolicyBinding": Kind(
        name="ValidatingAdmissionPolicyBinding",
        plural="validatingadmissionpolicybindings",
        group="admissionregistration.k8s.io",
        namespaced=False,
    ),
}


class Administrator:
    """Applies what Instar prints, and takes away what of it is not in the author's namespace."""

    def __init__(self, author: Author) -> None:
        self.author = author
        self.api = author.namespace.api
        self._applied: list[tuple[Kind, str | None, str]] = []

    def apply(self, document: str) -> None:
        for one in yaml.safe_load_all(self.author.instar("kubernetes", document, "prod")):
            metadata, kind = one["metadata"], KINDS[one["kind"]]
            namespace = metadata.get("namespace")
            self.api.create(kind, namespace, one)
            self._applied.append((kind, namespace, metadata["name"]))

    def clear(self) -> None:
        for kind, namespace, name in self._applied:
            self.api.delete(kind, namespace or "", name)

    def become_instar(self) -> None:
        self.become("instar")  # who has the roles, and nothing else

    def become(self, account: str) -> None:
        """Have the author's own commands ask as a service account of the namespace."""
        namespace = self.author.namespace
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        made = Kind(name="TokenRequest", plural=f"serviceaccounts/{account}/token")
        token = self.api.create(made, namespace.name, body)["status"]["token"]
        config = yaml.safe_load(Path(namespace.environ["KUBECONFIG"]).read_text())
        config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
        file = self.author.folder / "kubeconfig"
        file.write_text(json.dumps(config))
        namespace.environ["KUBECONFIG"] = str(file)
