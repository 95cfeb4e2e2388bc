# qtm with the example prices. Your engine: build FROM this image, copy the engine in, and set
# QTM_ENGINE=module:attribute.

# Pinned by the digest of its index for all platforms, so that a build repeats. For a newer one:
#   docker pull python:3.12-slim && docker inspect --format '{{index .RepoDigests 0}}' python:3.12-slim
#   docker build --build-arg BASE=python@sha256:… -t qtm .
ARG BASE=python:3.12.14-slim@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea
FROM ${BASE}

ARG REVISION=unknown
LABEL org.opencontainers.image.title="qtm" \
      org.opencontainers.image.description="The backtest task manager of a quant engine" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"

# The only package, and only for mysql:// databases.
COPY examples/deploy/requirements.txt /tmp/requirements.txt
RUN ["python", "-m", "pip", "install", "--no-cache-dir", "--no-deps", "--require-hashes", "-r", "/tmp/requirements.txt"]

WORKDIR /app
COPY qtm.py dashboard.html schema.sql ./
COPY examples/prices examples/prices
# Compiled once here, since the service cannot write to /app; `-m qtm` finds it by the .pth file, from every folder.
RUN ["python", "-m", "compileall", "-q", "qtm.py"]
RUN ["python", "-c", "import site; open(site.getsitepackages()[0] + '/qtm.pth', 'w').write('/app')"]
# The folder of the database (mount a volume on it), and a home for the caches of engines (numba, matplotlib).
RUN ["python", "-c", "import os; [(os.mkdir(path), os.chown(path, 10001, 10001)) for path in ('/data', '/home/qtm')]"]

# With QTM_PORT set a worker listens too, for probes and /metrics.
ENV QTM_HOST=0.0.0.0 \
    QTM_PORT=8080 \
    HOME=/home/qtm \
    PYTHONUNBUFFERED=1

USER 10001:10001
# By default the database is the file qtm.db here. QTM_DATABASE_URL is not set, since it would exclude QTM_DATABASE_URL_FILE.
WORKDIR /data
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
# Imported, not run as a script: an import finds what was compiled above. The port comes from QTM_PORT, not
# from a flag, which this command does not have.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s \
    CMD ["python", "-c", "import sys; sys.path.insert(0, '/app'); import qtm; sys.exit(qtm.main(['ping']))"]

# Bound to all addresses, so it asks for QTM_API_TOKEN (or QTM_ALLOW_ANONYMOUS=1) at `docker run`.
# -P: the service imports nothing from /data, where engines may write.
ENTRYPOINT ["python", "-P", "-m", "qtm"]
CMD ["serve"]
