"""Packaging of mcp-oauth2-proxy: ``pip install .`` gives the command and the twistd plugin."""

from pathlib import Path

from setuptools import find_packages, setup

_here = Path(__file__).parent

setup(
    name="mcp-oauth2-proxy",
    version="0.1.0",
    description="OAuth2 facade, token gate and streaming relay for MCP servers behind Keycloak",
    long_description=(_here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    # The plugin directory has no __init__.py by Twisted's rule, so it is named here by hand.
    packages=[*find_packages(include=["mcp_oauth2_proxy", "mcp_oauth2_proxy.*"]), "twisted.plugins"],
    package_data={"mcp_oauth2_proxy": ["py.typed", "**/*.html", "**/*.css", "**/*.json"]},
    zip_safe=False,
    install_requires=[
        "twisted[tls]>=24.7",  # the event loop, Resource tree, endpoints and twistd itself
        "treq>=24.9",  # every HTTP request towards Keycloak, and the shape of the relay's client
        "pyjwt>=2.9",  # JWS verification
        "cryptography>=43",  # Fernet sealing, HKDF, the signature primitives under PyJWT
        "pyyaml>=6",  # the configuration file
        "attrs>=24",  # immutable models
        "service-identity>=24",  # TLS names, checked by Twisted through it
        "httptools>=0.6.4",  # llhttp: the HTTP/1.1 parser of Node.js, strict and fast
        "uvloop>=0.21; platform_system != 'Windows'",  # libuv under Twisted's asyncio reactor
        "click>=8.1",  # command line, help text and shell completion
        "redis>=6.2",  # redis-py: the store of many replicas, with Sentinel and Cluster
        "jinja2>=3.1",  # the consent and error pages, escaped by default
    ],
    extras_require={
        "demo": [
            "mcp>=2.0",  # the official MCP SDK: the demo's server and client
        ],
        "test": [
            "mcp>=2.0",  # real client and server in the end-to-end tests
            # fuzzing that is guided by coverage; there are wheels for this platform only
            "atheris>=3; platform_system == 'Linux' and platform_machine == 'x86_64'",
            "h11>=0.16",  # a second reader of HTTP/1.1: what an upstream and a client make of our bytes
            "hypothesis>=6.100",  # property tests of everything that parses
            "jsonschema>=4.23",  # validates the published configuration schema and the chart's renderings
            "kubernetes-validate>=1.34",  # Kubernetes' own schemas, for what the chart renders
            "selenium>=4.30",  # drives a real Chromium over WebDriver, with the machine's own driver
            "schemathesis>=4.30",  # requests made from the OpenAPI description, good ones and bad ones
            "pyhamcrest>=2.1",  # Twisted's own reactor tests, run on ours, import it
            "coverage>=7.6",  # make test-coverage
            "mypy>=1.14",  # strict types
            "mypy-zope>=1.0.9",  # zope.interface for mypy
            "types-PyYAML",  # PyYAML's types
            "ruff>=0.9",  # lint and format
            "towncrier>=24.8",  # changelog fragments
        ],
    },
    entry_points={"console_scripts": ["mcp-oauth2-proxy=mcp_oauth2_proxy.cli:main"]},
    classifiers=[
        "Framework :: Twisted",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: Proxy Servers",
    ],
)
