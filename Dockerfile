# syntax=docker/dockerfile:1
#
# docker build --tag mcp-oauth2-proxy:latest .
# docker run -v $(pwd)/config.yaml:/app/config.yaml mcp-oauth2-proxy:latest
#
# Works with a read-only root and no capabilities: docker run --read-only --cap-drop ALL ...
# Under twistd instead: docker run ... --entrypoint twistd IMAGE -n --pidfile= mcp-oauth2-proxy

FROM python:3.13-slim AS build

WORKDIR /src
COPY constraints.txt /src/
COPY setup.py pyproject.toml README.md /src/
COPY mcp_oauth2_proxy /src/mcp_oauth2_proxy
COPY twisted /src/twisted

# Wheels only: nothing is compiled, so no compiler is needed on any architecture.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip wheel --disable-pip-version-check --no-deps --wheel-dir /dist /src
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --without-pip /opt/venv && \
    python3 -m pip --python /opt/venv/bin/python3 install --disable-pip-version-check \
        --only-binary :all: --no-compile --constraint /src/constraints.txt /dist/*.whl

# Nothing can be written at run time: bytecode and twistd's plugin cache are made now. The bytecode is
# not compared with its source again, so that no copy of the files can make it look stale.
RUN /opt/venv/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib && \
    /opt/venv/bin/python3 -c "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"


FROM python:3.13-slim

# The base image's own installer is not needed by what runs here.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/ensurepip /usr/local/lib/python3.*/*-packages/pip*

COPY --from=build /opt/venv /opt/venv

ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown

LABEL org.opencontainers.image.title="mcp-oauth2-proxy" \
      org.opencontainers.image.description="OAuth2 facade, token gate and streaming relay that put Keycloak in front of an MCP server" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"

# The last two are what `mcp-oauth2-proxy version` says of the build.
ENV PATH="/opt/venv/bin:/usr/local/bin:/usr/bin:/bin" \
    PYTHONDONTWRITEBYTECODE="1" \
    PYTHONUNBUFFERED="1" \
    MCP_OAUTH2_PROXY_BUILD_REVISION="${REVISION}" \
    MCP_OAUTH2_PROXY_BUILD_DATE="${CREATED}"

# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
WORKDIR /app
EXPOSE 8080
STOPSIGNAL SIGTERM

# No HEALTHCHECK: it would start a Python interpreter every few seconds and have to guess the port that the
# configuration sets. Kubernetes ignores it and asks /healthz and /readyz itself; docs/deployment.md has the
# `docker run --health-cmd` for a plain Docker host.
ENTRYPOINT ["mcp-oauth2-proxy"]
CMD ["serve"]
