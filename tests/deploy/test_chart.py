"""The Helm chart, rendered by a real Helm.

``UPDATE_GOLDEN=1 make test TESTS=tests/deploy`` writes the golden renderings anew; read the diff.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate import ValidationError, validate
from twisted.trial.unittest import SynchronousTestCase

from mcp_oauth2_proxy.config.load import load_config
from tests.deploy.tools import CHART, helm
from tests.support.program import REPOSITORY
from tools.chart_schema import rendered

_HERE = Path(__file__).parent
#: Name of the golden rendering: the values file it is made of.
CASES = {
    "minimal": _HERE / "values" / "minimal.yaml",
    "environment": _HERE / "values" / "environment.yaml",
    "full": _HERE / "values" / "full.yaml",
    "replicas": _HERE / "values" / "replicas.yaml",
    "production": REPOSITORY / "deploy" / "values-production.yaml",
}
#: The oldest Kubernetes that the chart names, one in the middle, and the newest that is known.
KUBERNETES = ("1.25.0", "1.30.0", "1.37.0")
#: What the pod's environment sets in the cases that rely on it.
ENVIRONMENT = {
    "minimal": {"MCP_OAUTH2_PROXY_AUTH_CLIENTSECRET": "x"},
    "production": {"MCP_OAUTH2_PROXY_AUTH_CLIENTSECRET": "x"},
    "replicas": {"MCP_OAUTH2_PROXY_AUTH_CLIENTSECRET": "x", "REDIS_PASSWORD": "y"},
    "environment": {
        "MCP_OAUTH2_PROXY_UPSTREAM_URL": "http://mcp-server:3000",
        "MCP_OAUTH2_PROXY_AUTH_BASEURL": "https://mcp-proxy.example.com",
        "MCP_OAUTH2_PROXY_AUTH_ISSUERURL": "https://auth.example.com/realms/myrealm",
        "MCP_OAUTH2_PROXY_AUTH_CLIENTID": "mcp-proxy",
        "MCP_OAUTH2_PROXY_AUTH_CLIENTSECRET": "x",
    },
}

#: The setting that accepts replicas of which each knows its own logins only.
ALLOWED = "allowReplicasWithMemoryStore=true"


def render(values: Path, *settings: str, fails: bool = False) -> str:
    """Return what ``helm template`` makes of a values file and ``--set`` settings."""
    sets = [argument for setting in settings for argument in ("--set", setting)]
    arguments = ("template", "mcp-oauth2-proxy", "deploy/helm", "--namespace", "mcp-oauth2-proxy")
    return helm(*arguments, "--values", str(values), *sets, fails=fails)


def manifests(values: Path, *settings: str) -> dict[str, dict[str, Any]]:
    """Return the rendered objects by their kind; the chart makes at most one of each."""
    found = [item for item in yaml.safe_load_all(render(values, *settings)) if item]
    by_kind = {item["kind"]: item for item in found}
    assert len(by_kind) == len(found)
    return by_kind


def pod(objects: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the pod's spec."""
    spec: dict[str, Any] = objects["Deployment"]["spec"]["template"]["spec"]
    return spec


class Lint(SynchronousTestCase):
    """``helm lint --strict``."""

    def test_lint(self) -> None:
        """The chart as it is, and with each of the values files, has nothing to complain about."""
        for values in CASES.values():
            said = helm("lint", "--strict", "deploy/helm", "--values", str(values))
            self.assertIn("1 chart(s) linted, 0 chart(s) failed", said)

    def test_make_helm_debug(self) -> None:
        """``make helm-debug`` renders the example of a production's values with Helm's own remarks."""
        recipe = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
        self.assertIn("template mcp-oauth2-proxy deploy/helm --debug", recipe)
        values = ("--values", "deploy/values-production.yaml")
        said = helm("template", "mcp-oauth2-proxy", "deploy/helm", "--debug", *values)
        self.assertIn("kind: Deployment", said)

    def test_documented_installation(self) -> None:
        """The README's `helm install` renders, with the example copied to where it looks for it."""
        text = (REPOSITORY / "README.md").read_text(encoding="utf-8").replace("\\\n", " ")
        (line,) = [line for line in text.splitlines() if line.startswith("helm install ")]
        words = shlex.split(line)
        self.assertEqual(words[2:4], ["mcp-oauth2-proxy", "deploy/helm"])
        self.assertIn("--create-namespace", words)
        with tempfile.TemporaryDirectory() as directory:
            copy = Path(directory) / words[words.index("-f") + 1]
            shutil.copy(REPOSITORY / "deploy" / "values-production.yaml", copy)
            rest = [str(copy) if word == copy.name else word for word in words[2:]]
            self.assertIn("kind: Deployment", helm("template", *rest))

    def test_packages(self) -> None:
        """``helm package`` makes the archive that the pipeline pushes, under the version of its tag."""
        with tempfile.TemporaryDirectory() as directory:
            helm("package", "deploy/helm", "--version", "1.0.0", "--destination", directory)
            archive = Path(directory) / "mcp-oauth2-proxy-1.0.0.tgz"
            shown = helm("show", "chart", str(archive))
        self.assertEqual(yaml.safe_load(shown)["version"], "1.0.0")


class Rendering(SynchronousTestCase):
    """What Kubernetes is given."""

    maxDiff = None

    def test_golden(self) -> None:
        """A change of the chart shows as a change of these files."""
        for name, values in CASES.items():
            golden = _HERE / "golden" / f"{name}.yaml"
            text = render(values)
            if os.environ.get("UPDATE_GOLDEN") == "1":
                golden.write_text(text, encoding="utf-8")
            self.assertEqual(text, golden.read_text(encoding="utf-8"), f"{golden} differs")

    def test_kubernetes_accepts_it(self) -> None:
        """Every object fits Kubernetes' own schemas, strictly: no field is misplaced or misspelt."""
        for values in CASES.values():
            for item in manifests(values).values():
                for version in KUBERNETES:
                    checked_by = validate(item, version, strict=True)
                    self.assertTrue(version.startswith(checked_by), checked_by)

    def test_validation_notices(self) -> None:
        """The validation is not blind: a misspelt field of the pod is refused."""
        deployment = manifests(CASES["minimal"])["Deployment"]
        deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
        with self.assertRaises(ValidationError):
            validate(deployment, KUBERNETES[-1], strict=True)

    def test_configuration(self) -> None:
        """The ConfigMap holds what was set, fits the published schema, and the proxy starts with it."""
        published = json.loads((REPOSITORY / "docs" / "config.schema.json").read_text(encoding="utf-8"))
        for name, values in CASES.items():
            text = manifests(values)["ConfigMap"]["data"]["config.yaml"]
            written = yaml.safe_load(text)
            Draft202012Validator(published).validate(written)
            given = yaml.safe_load(values.read_text(encoding="utf-8")).get("config", {})
            with tempfile.TemporaryDirectory() as directory:
                environment = dict(ENVIRONMENT.get(name, {"SEALING_KEY": "k" * 43}))
                path = Path(directory) / "config.yaml"
                if name == "full":
                    secret = Path(directory) / "clientSecret"
                    secret.write_text("x", encoding="utf-8")
                    mounted = written["auth"].pop("clientSecretFile")
                    self.assertEqual(mounted, "/etc/mcp-oauth2-proxy/clientSecret")
                    text = text.replace(mounted, str(secret))
                    environment["SEALING_KEY"] = "c2VhbGluZy1rZXktb2YtMzItYnl0ZXMtZXhhY3RseSE="
                for section, fields in given.items():
                    self.assertEqual(written[section], fields)
                path.write_text(text, encoding="utf-8")
                loaded = load_config(str(path), environment).config
            self.assertEqual(loaded.auth.client_secret.reveal(), "x")

    def test_contract(self) -> None:
        """Probes, Service, mounted configuration, ServiceAccount and security are as promised."""
        objects = manifests(CASES["minimal"])
        spec = pod(objects)
        (container,) = spec["containers"]
        self.assertEqual(container["livenessProbe"]["httpGet"], {"path": "/healthz", "port": "http"})
        self.assertEqual(container["readinessProbe"]["httpGet"], {"path": "/readyz", "port": "http"})
        service = objects["Service"]["spec"]
        self.assertEqual((service["type"], service["ports"][0]["port"]), ("ClusterIP", 8080))
        self.assertEqual(container["ports"][0]["containerPort"], 8080)
        (mount,) = container["volumeMounts"]
        self.assertEqual((mount["mountPath"], mount["subPath"]), ("/app/config.yaml", "config.yaml"))
        self.assertIs(objects["ServiceAccount"]["automountServiceAccountToken"], True)
        self.assertEqual(
            container["securityContext"],
            {
                "runAsNonRoot": True,
                "readOnlyRootFilesystem": True,
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        )
        self.assertEqual(spec["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
        self.assertEqual(spec["securityContext"]["runAsUser"], 65532)
        self.assertIs(spec["enableServiceLinks"], False)
        self.assertNotIn("HorizontalPodAutoscaler", objects)
        self.assertNotIn("PodDisruptionBudget", objects)
        self.assertNotIn("Ingress", objects)

    def test_selectors(self) -> None:
        """Service, budget and Deployment select the pods that the Deployment makes, other labels aside."""
        objects = manifests(CASES["full"])
        labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
        for selector in (
            objects["Deployment"]["spec"]["selector"]["matchLabels"],
            objects["Service"]["spec"]["selector"],
            objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        ):
            self.assertEqual(len(selector), 2)
            self.assertEqual({**labels, **selector}, labels)

    def test_a_secret_by_reference(self) -> None:
        """With existingSecret the chart makes no Secret, and refers to yours from env or a file."""
        objects = manifests(CASES["production"])
        self.assertNotIn("Secret", objects)
        (entry,) = pod(objects)["containers"][0]["env"]
        self.assertEqual(
            entry["valueFrom"]["secretKeyRef"], {"name": "keycloak-client", "key": "clientSecret"}
        )
        objects = manifests(CASES["production"], "clientSecret.asFile=true")
        self.assertNotIn("env", pod(objects)["containers"][0])
        volume = pod(objects)["volumes"][1]["secret"]
        self.assertEqual(volume["secretName"], "keycloak-client")
        self.assertIn("/etc/mcp-oauth2-proxy/clientSecret", objects["ConfigMap"]["data"]["config.yaml"])

    def test_no_secret_in_the_config_map(self) -> None:
        """A client secret given as a value is in the Secret only."""
        objects = manifests(CASES["minimal"])
        self.assertIn("Secret", objects)
        self.assertNotIn("golden-client-secret", str(objects))

    def test_a_changed_configuration_rolls_out(self) -> None:
        """Pods are replaced when the configuration or the secret changes, and only then."""

        def annotations(*settings: str) -> Any:
            deployment = manifests(CASES["minimal"], *settings)["Deployment"]
            return deployment["spec"]["template"]["metadata"]["annotations"]

        before = annotations()
        self.assertEqual(before, annotations("service.port=80"))
        self.assertNotEqual(
            before["checksum/config"], annotations("config.log.level=DEBUG")["checksum/config"]
        )
        self.assertNotEqual(before["checksum/secret"], annotations("clientSecret.value=y")["checksum/secret"])

    def test_ports_and_times_follow_the_configuration(self) -> None:
        """The container's port is that of listenAddress, and a pod has the time that draining may take."""
        for setting, port in ((":8080", 8080), ("0.0.0.0:9000", 9000), ("[::]:81", 81)):
            spec = pod(manifests(CASES["minimal"], f"config.server.listenAddress={setting}"))
            self.assertEqual(spec["containers"][0]["ports"][0]["containerPort"], port)
        for grace, seconds in (("10s", 20), ("1m", 70), ("1h1m0.5s", 3671), ("250ms", 11), ("0s", 10)):
            spec = pod(manifests(CASES["minimal"], f"config.server.shutdownGrace={grace}"))
            self.assertEqual(spec["terminationGracePeriodSeconds"], seconds, grace)
        spec = pod(manifests(CASES["minimal"], "config.server.shutdownGrace=30s", "preStopSleepSeconds=15"))
        self.assertEqual(spec["terminationGracePeriodSeconds"], 50)
        self.assertEqual(spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"], ["sleep", "15"])
        spec = pod(manifests(CASES["minimal"], "terminationGracePeriodSeconds=15"))
        self.assertEqual(spec["terminationGracePeriodSeconds"], 15)

    def test_a_budget_for_several(self) -> None:
        """Maintenance does not take two pods away at once; one alone has no budget to be in its way."""
        several = ("replicaCount=2", ALLOWED)
        budget = manifests(CASES["minimal"], *several)["PodDisruptionBudget"]["spec"]
        self.assertEqual(budget["maxUnavailable"], 1)
        scaled = ("autoscaling.enabled=true", ALLOWED)
        self.assertIn("PodDisruptionBudget", manifests(CASES["minimal"], *scaled))
        for settings in (
            ("replicaCount=1",),
            (*several, "podDisruptionBudget.enabled=false"),
            (*scaled, "autoscaling.minReplicas=1"),
        ):
            self.assertNotIn("PodDisruptionBudget", manifests(CASES["minimal"], *settings))

    def test_autoscaling_by_the_processor(self) -> None:
        """The number of pods follows the CPU that they use of what they asked for."""
        scaler = manifests(CASES["replicas"])["HorizontalPodAutoscaler"]["spec"]
        self.assertEqual((scaler["minReplicas"], scaler["maxReplicas"]), (2, 8))
        (metric,) = scaler["metrics"]
        self.assertEqual(metric["resource"]["name"], "cpu")
        self.assertEqual(metric["resource"]["target"], {"type": "Utilization", "averageUtilization": 70})

    def test_workers_that_share_memory(self) -> None:
        """Workers with memory:// have a place for the file that stands for it; others need none."""
        spec = pod(manifests(CASES["minimal"], "config.server.workers=2"))
        self.assertIn({"name": "temporary", "mountPath": "/tmp"}, spec["containers"][0]["volumeMounts"])
        self.assertIn({"name": "temporary", "emptyDir": {"sizeLimit": "512Mi"}}, spec["volumes"])
        for settings in (
            ("config.server.workers=1",),
            ("config.server.workers=auto", "config.store.url=redis://redis"),
        ):
            self.assertNotIn("temporary", str(pod(manifests(CASES["minimal"], *settings))))

    def test_notes(self) -> None:
        """After the installation Helm says what Keycloak needs, and warns of replicas that share no store."""
        with tempfile.TemporaryDirectory() as directory:
            chart = Path(directory) / "helm"
            shutil.copytree(CHART, chart)
            # Helm shows the notes only once a cluster has answered: here they are put into an object.
            (chart / "templates" / "shown.yaml").write_text(
                'notes: {{ include (print .Template.BasePath "/NOTES.txt") . | quote }}', encoding="utf-8"
            )
            shown = ("template", "x", str(chart), "--show-only", "templates/shown.yaml", "--values")
            one = helm(*shown, str(CASES["minimal"]))
            many = helm(*shown, str(CASES["minimal"]), "--set", ALLOWED + ",replicaCount=2")
        self.assertIn("https://mcp-proxy.example.com/oauth/callback", one)
        self.assertNotIn("WARNING", one)
        self.assertIn("WARNING", many)

    def test_autoscaling_decides_the_replicas(self) -> None:
        """With autoscaling the Deployment names no number that an upgrade would fall back to."""
        self.assertNotIn("replicas", manifests(CASES["full"])["Deployment"]["spec"])
        self.assertEqual(manifests(CASES["minimal"])["Deployment"]["spec"]["replicas"], 1)


class Refusals(SynchronousTestCase):
    """What cannot work is refused by Helm, not by a pod that restarts for ever."""

    def refused(self, *settings: str) -> str:
        return render(CASES["minimal"], *settings, fails=True)

    def test_what_is_required(self) -> None:
        """A missing setting is named."""
        for setting in ("upstream.url", "auth.baseUrl", "auth.issuerUrl", "auth.clientId"):
            section, key = setting.split(".")
            values = yaml.safe_load(CASES["minimal"].read_text(encoding="utf-8"))
            del values["config"][section][key]
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                yaml.safe_dump(values, file)
                file.flush()
                self.assertIn(f"config.{setting} is required", render(Path(file.name), fails=True))
        self.assertIn("clientSecret.existingSecret", self.refused("clientSecret.value="))

    def test_secrets_in_the_configuration(self) -> None:
        """A secret written into the configuration is refused, a reference to the environment is not."""
        self.assertIn("readable in a ConfigMap", self.refused("config.auth.clientSecret=x"))
        self.assertIn("readable in a ConfigMap", self.refused(f"config.auth.sealingKeys={{{'k' * 44}}}"))
        self.assertIn("set twice", self.refused("config.auth.clientSecret=${SECRET}"))
        self.assertIn("not both", self.refused("clientSecret.existingSecret=x"))
        manifests(CASES["minimal"], "clientSecret.value=", "config.auth.clientSecret=${SECRET}")

    def test_misspelt_values(self) -> None:
        """A key that is neither the chart's nor the configuration's is named."""
        self.assertIn("config/auth", self.refused("config.auth.issuerURL=https://x"))
        self.assertIn("replicas", self.refused("replicas=2"))
        self.assertIn("/service/port", self.refused("service.port=http"))
        self.assertIn("readTimeout", self.refused("config.server.readTimeout=soon"))

    def test_a_socket_of_systemd(self) -> None:
        """There is none in a pod."""
        address = "config.server.listenAddress=systemd:domain=INET:index=0"
        self.assertIn("nothing hands a socket to a pod", self.refused(address))

    def test_replicas_that_share_no_store(self) -> None:
        """Replicas that would lose each other's logins are refused, unless asked for or sharing a store."""
        for setting in ("replicaCount=2", "autoscaling.enabled=true"):
            self.assertIn("more than one replica", self.refused(setting))
            manifests(CASES["minimal"], setting, ALLOWED)
            self.assertIn(
                "more than one replica", self.refused(setting, "config.store.url=sqlite:///data/db")
            )
            manifests(CASES["minimal"], setting, "config.store.url=${STORE_URL}")
            manifests(CASES["minimal"], setting, "config.store.urlFile=/run/secrets/store-url")
            manifests(CASES["minimal"], setting, "config.store.url=redis://redis:6379")
        manifests(
            CASES["minimal"],
            "autoscaling.enabled=true",
            "autoscaling.minReplicas=1",
            "autoscaling.maxReplicas=1",
        )

    def test_too_little_time_to_end(self) -> None:
        """A pod that would be killed while it still serves is refused, with the time that it takes."""
        refused = self.refused("terminationGracePeriodSeconds=39", "config.server.shutdownGrace=35s")
        self.assertIn("preStopSleepSeconds and config.server.shutdownGrace take 40 s", refused)

    def test_autoscaling_that_cannot_work(self) -> None:
        """A target without the request that it is a share of, no target, bounds the wrong way round."""
        scaled = ("autoscaling.enabled=true", ALLOWED)
        self.assertIn("resources.requests.cpu", self.refused(*scaled, "resources.requests.cpu=null"))
        self.assertIn(
            "resources.requests.memory",
            self.refused(
                *scaled, "resources.requests.memory=null", "autoscaling.targetMemoryUtilizationPercentage=80"
            ),
        )
        self.assertIn("set target", self.refused(*scaled, "autoscaling.targetCPUUtilizationPercentage=null"))
        self.assertIn("minReplicas is more", self.refused(*scaled, "autoscaling.minReplicas=9"))

    def test_the_password_of_the_store(self) -> None:
        """A password in the store's URL does not get into a ConfigMap; a variable does."""
        refused = self.refused("config.store.url=redis://:hunter2@redis:6379")
        self.assertIn("readable in a ConfigMap", refused)
        self.assertNotIn("hunter2", refused)
        manifests(CASES["minimal"], "config.store.url=redis://:${REDIS_PASSWORD}@redis:6379")

    def test_other_contradictions(self) -> None:
        """A budget with two bounds and an ingress without a host are refused."""
        budget = ("podDisruptionBudget.enabled=true", "podDisruptionBudget.minAvailable=1")
        self.assertIn("not both", self.refused(*budget, "podDisruptionBudget.maxUnavailable=1"))
        self.assertIn("ingress.hosts is required", self.refused("ingress.enabled=true"))


class Files(SynchronousTestCase):
    """What is written twice stays equal."""

    def test_values_schema(self) -> None:
        """values.schema.json is what tools/chart_schema.py writes: run it after a change."""
        self.assertEqual((CHART / "values.schema.json").read_text(encoding="utf-8"), rendered())

    def test_every_value_is_explained(self) -> None:
        """The chart's README has a row for each value."""
        readme = (CHART / "README.md").read_text(encoding="utf-8")
        values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
        for name in values:
            self.assertRegex(readme, rf"\n\| .*`{name}[.`]", f"no row for {name}")

    def test_version(self) -> None:
        """The chart runs the version that the package has."""
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        setup = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
        self.assertIn(f'version="{chart["appVersion"]}"', setup)
