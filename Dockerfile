# qtm with the example prices. Your engine: build FROM this image, copy the engine in, and set QTM_ENGINE=module:attribute.
FROM python:3.12-slim

# The only package, and only for mysql:// databases.
RUN ["python", "-m", "pip", "install", "--no-cache-dir", "pymysql>=1.1,<2"]

WORKDIR /app
COPY qtm.py schema.sql ./
COPY examples/prices examples/prices
# Compiled once here, since the service cannot write to /app.
RUN ["python", "-m", "compileall", "-q", "qtm.py"]
# The folder of the database, owned by the user below; mount a volume on it.
RUN ["python", "-c", "import os; os.mkdir('/data'); os.chown('/data', 10001, 10001)"]

ENV QTM_DATABASE_URL=sqlite:////data/qtm.db \
    QTM_HOST=0.0.0.0 \
    PYTHONUNBUFFERED=1

USER 10001:10001
VOLUME ["/data"]
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["python", "-c", "import os, ssl, urllib.request as r; r.urlopen('http' + 's' * bool(os.environ.get('QTM_TLS_CERT')) + '://127.0.0.1:' + os.environ.get('QTM_PORT', '8080') + '/healthz', timeout=2, context=ssl._create_unverified_context())"]

# Bound to all addresses, so it asks for QTM_API_TOKEN (or QTM_ALLOW_ANONYMOUS=1) at `docker run`.
ENTRYPOINT ["python", "/app/qtm.py"]
CMD ["serve"]
