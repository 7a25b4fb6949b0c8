# The trainer, with the client of Kubernetes: training, evaluation, export, and the operator's `pilothouse` with every
# command. Its stages are those of service.Dockerfile, and the context is the same; a test holds them equal.
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b

# ---- what comes from others: changes only with the lock -------------------------------------------------------
FROM ${BASE} AS dependencies
COPY python requirements.lock prune /build/
RUN set -eu; \
    have=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])'); want=$(cat /build/python); \
    [ "$have" = "$want" ] || { echo "the base has Python $have, the wheels are for $want: set PYTHON=python$have" >&2; exit 1; }; \
    python3 -m venv /build/tools; \
    python3 -m venv --without-pip /opt/pilothouse
# The root is read-only later, so bytecode is written now; by hash, because copies of layers lose times. Left out: what
# torch tests itself with, in the syntax of other Pythons, and large parts that are hardly ever imported.
RUN --mount=type=bind,source=wheels,target=/wheels \
    set -eu; \
    /build/tools/bin/pip --quiet --disable-pip-version-check --no-cache-dir --python /opt/pilothouse/bin/python \
      install --no-index --find-links /wheels --require-hashes --no-compile --requirement /build/requirements.lock; \
    /build/prune /opt/pilothouse; \
    /opt/pilothouse/bin/python -m compileall -q -j 0 -x 'torch/testing/_internal|pygments/lexers|kubernetes/aio' \
      --invalidation-mode unchecked-hash /opt/pilothouse/lib

# ---- Pilothouse itself: a layer of its own, so that a change of code builds and pulls a few megabytes -----------
FROM dependencies AS project
# Copied, not mounted: a builder that keeps layers does not look at what is mounted, and would keep old code.
COPY project /build/project/
RUN set -eu; \
    /build/tools/bin/pip --quiet --disable-pip-version-check --no-cache-dir --python /opt/pilothouse/bin/python \
      install --no-index --find-links /build/project --no-deps --no-compile --root /staged --prefix /opt/pilothouse pilothouse; \
    /opt/pilothouse/bin/python -m compileall -q --invalidation-mode unchecked-hash \
      -s /staged /staged/opt/pilothouse/lib

# ---- what runs ------------------------------------------------------------------------------------------------------
FROM ${BASE}
# An account of its own, with a name because some libraries ask for it; no way to install anything.
RUN set -eu; \
    groupadd --gid 10001 pilothouse; \
    useradd --no-log-init --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin pilothouse; \
    install --directory /etc/pilothouse; \
    install --directory --owner 10001 --group 10001 \
      /var/lib/pilothouse /var/lib/pilothouse/feedback /var/lib/pilothouse/models /var/lib/pilothouse/runs; \
    rm -rf /usr/local/bin/pip* /usr/local/bin/wheel /usr/local/lib/python3*/site-packages/* \
      /usr/local/lib/python3*/ensurepip /usr/lib/python3*/ensurepip /usr/share/python-wheels
COPY --from=dependencies /opt/pilothouse /opt/pilothouse
# CUDA's libraries, where they came as wheels: the loader finds them for whoever asks.
RUN set -eu; \
    find /opt/pilothouse/lib -path '*/nvidia/*' -type d -name lib >/etc/ld.so.conf.d/pilothouse.conf; \
    ldconfig
COPY --from=project /staged/opt/pilothouse /opt/pilothouse
# Those tokens are pieces of text.
# hadolint ignore=DL3064
ENV PATH=/opt/pilothouse/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/tmp \
    HF_HUB_OFFLINE=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TOKENIZERS_PARALLELISM=false
WORKDIR /var/lib/pilothouse
USER 10001:10001
ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title="pilothouse-trainer" \
      org.opencontainers.image.description="The trainer and command line of Pilothouse: reinforcement learning from human feedback as separate gRPC services" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENTRYPOINT ["pilothouse"]
