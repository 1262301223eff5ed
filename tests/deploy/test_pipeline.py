"""The GitLab pipeline, read as GitLab reads it: YAML with includes, ``extends`` and rules on tags."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

REPOSITORY = Path(__file__).parents[2]
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
#: Top-level words of GitLab's that are no jobs.
KEYWORDS = {"include", "stages", "workflow", "default", "variables"}
_NUMBER = st.integers(0, 10**6).map(str)
VERSIONS = st.tuples(_NUMBER, _NUMBER, _NUMBER).map(".".join)


def read(path: str) -> dict[str, Any]:
    """Return one YAML file of the pipeline."""
    loaded: dict[str, Any] = yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))
    return loaded


def pipeline() -> dict[str, Any]:
    """Return the pipeline with the repository's own includes merged in."""
    own = read(".gitlab-ci.yml")
    merged: dict[str, Any] = {}
    for include in own["include"]:
        if "local" in include:
            merged |= read(include["local"].lstrip("/"))
    return merged | own


def jobs() -> dict[str, dict[str, Any]]:
    """Return the jobs that run, with what they extend filled in."""
    everything = pipeline()
    found = {}
    for name, job in everything.items():
        if name not in KEYWORDS and not name.startswith("."):
            found[name] = everything.get(job.get("extends", ""), {}) | job
    return found


def runs_on_tag(job: dict[str, Any], tag: str) -> bool:
    """Tell whether the rules of a job let it run for a tag."""
    for rule in job["rules"]:
        condition = re.fullmatch(r"\$CI_COMMIT_TAG =~ /(.+)/", rule["if"])
        if condition is None:
            raise AssertionError(f"a rule that this test cannot read: {rule['if']}")
        if re.search(condition[1], tag):
            return True
    return False


def published_by(tag: str) -> set[str]:
    """Return the names of the jobs that a tag starts beside the tests."""
    return {name for name, job in jobs().items() if "rules" in job and runs_on_tag(job, tag)}


class TagTests(SynchronousTestCase):
    """What a maintainer's tag publishes."""

    def test_semver_tag_publishes_the_image(self) -> None:
        """Who pushes the tag 1.0.0 gets an image, scanned, and no chart."""
        for tag in ("1.0.0", "0.1.0", "10.20.30", "1.0.0-rc.1"):
            self.assertEqual(published_by(tag), {"image", "container_scanning"}, tag)

    def test_helm_tag_publishes_the_chart(self) -> None:
        """Who pushes the tag helm-1.0.0 gets a chart and no image."""
        for tag in ("helm-1.0.0", "helm-0.1.0", "helm-1.0.0-beta.2"):
            self.assertEqual(published_by(tag), {"helm"}, tag)

    @given(VERSIONS)
    def test_every_version_is_published(self, version: str) -> None:
        """Whatever its numbers are, a version's tag publishes the image and its helm- tag the chart."""
        self.assertIn("image", published_by(version))
        self.assertEqual(published_by(f"helm-{version}"), {"helm"})

    def test_other_tags_publish_nothing(self) -> None:
        """A tag that only looks like a version leaves the registry as it is."""
        for tag in (
            "v1.0.0",
            "1.0",
            "1.0.0.0",
            "01.0.0",
            "helm-1",
            "helm1.0.0",
            "xhelm-1.0.0",
            "1.0.0 ",
            "1.0.0\n2",
        ):
            self.assertEqual(published_by(tag), set(), tag)

    def test_publishing_is_not_interrupted(self) -> None:
        """A newer push does not cut the publication of a version in half."""
        for name in ("image", "helm"):
            self.assertIs(jobs()[name]["interruptible"], False)


class PipelineTests(SynchronousTestCase):
    """What a contributor's push runs."""

    def test_make_targets_exist(self) -> None:
        """Every `make` that the pipeline calls is a target that a contributor can call too."""
        called = {
            word
            for job in jobs().values()
            for line in job.get("script", [])
            for word in re.findall(r"^make ([a-z0-9-]+)", line)
        }
        self.assertLessEqual({"test", "lint", "test-coverage", "e2e", "helm-debug"}, called)
        for target in called:
            self.assertRegex(MAKEFILE, rf"(?m)^{target}:")

    def test_tests_and_lint_run_on_every_change(self) -> None:
        """A merge request shows tests on every supported Python, and the linters' findings."""
        found = jobs()
        for name in ("test", "lint", "e2e", "chart"):
            self.assertNotIn("rules", found[name])
            self.assertEqual(found[name]["stage"], "test")
        versions = found["test"]["parallel"]["matrix"][0]["PYTHON_VERSION"]
        setup = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
        self.assertEqual(versions, re.findall(r"Python :: (3\.\d+)", setup))

    def test_one_pipeline_a_change(self) -> None:
        """A push to a merge request's branch does not run everything twice."""
        rules = pipeline()["workflow"]["rules"]
        self.assertEqual(rules[1], {"if": "$CI_COMMIT_BRANCH && $CI_OPEN_MERGE_REQUESTS", "when": "never"})
        self.assertIn({"if": "$CI_COMMIT_TAG"}, rules)

    def test_every_job_is_complete(self) -> None:
        """GitLab accepts the file: every stage is declared, everything extended and needed is there."""
        everything, found = pipeline(), jobs()
        for name, job in found.items():
            self.assertIn(job["stage"], everything["stages"], name)
            if "extends" in job:
                self.assertIn(job["extends"], everything)
            for needed in job.get("needs", []):
                self.assertIn(needed, found)
            if name != "container_scanning":  # the included template brings its script
                self.assertIn("script", job, name)
                self.assertTrue(all(isinstance(line, str) for line in job["script"]), name)

    def test_shared_templates(self) -> None:
        """Multi-arch builds, security scanning and Helm publishing come from templates for others too."""
        includes = pipeline()["include"]
        local = {include["local"] for include in includes if "local" in include}
        self.assertEqual(local, {"/deploy/ci/multi-arch-image.yml", "/deploy/ci/helm-publish.yml"})
        for path in local:
            names = set(read(path.lstrip("/")))
            self.assertTrue(
                names and all(name.startswith(".") for name in names), "a template runs nothing by itself"
            )
        scans = {include["template"] for include in includes if "template" in include}
        self.assertLessEqual({"Jobs/SAST.gitlab-ci.yml", "Jobs/Container-Scanning.gitlab-ci.yml"}, scans)

    def test_image_of_several_architectures(self) -> None:
        """The image runs on amd64 and arm64, and its labels say which commit it is of."""
        image = jobs()["image"]
        self.assertEqual(image["variables"]["PLATFORMS"], "linux/amd64,linux/arm64")
        arguments = set(re.findall(r'--build-arg "([A-Z]+)=', "\n".join(image["script"])))
        declared = set(
            re.findall(r"(?m)^ARG ([A-Z]+)", (REPOSITORY / "Dockerfile").read_text(encoding="utf-8"))
        )
        self.assertEqual(arguments, declared)

    def test_passwords_are_never_arguments(self) -> None:
        """The registry's password is piped, so no process list or job log shows it."""
        for name in ("image", "helm"):
            login = [line for line in jobs()[name]["before_script"] if "CI_REGISTRY_PASSWORD" in line]
            self.assertEqual(len(login), 1)
            self.assertRegex(login[0], r'^echo "\$CI_REGISTRY_PASSWORD" \| .+ --password-stdin ')
