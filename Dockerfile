# Stages: base (common to all) -> dependencies (a virtual environment) -> test (with the tools of
# the tests); base -> runtime (the service and its dependencies), which is the image to run;
# runtime -> litestream, with Litestream for the commands that restore its replica.

FROM python:3.13-slim AS base
# The id is fixed, because it owns the files on the volume, also those of other images.
# /app/data is the volume as well, so that sqlite:///data/app.db and sqlite:////data/app.db name
# the same file.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent app \
    && install --directory --mode 0700 --owner app --group app /data \
    && install --directory /app \
    && ln -s /data /app/data
# SQLite sorts large amounts of data on the volume; /tmp is memory here.
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SQLITE_TMPDIR=/data
WORKDIR /app


FROM base AS dependencies
COPY requirements.txt ./
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --no-compile \
        --disable-pip-version-check --root-user-action ignore --require-hashes \
        --requirement requirements.txt \
    && python -m compileall -q --invalidation-mode unchecked-hash /venv


FROM dependencies AS test
COPY tests/requirements.txt tests/
RUN pip --python /venv/bin/python install --no-cache-dir \
        --disable-pip-version-check --root-user-action ignore --require-hashes \
        --requirement tests/requirements.txt
COPY . .
USER 10001:10001
ENV HYPOTHESIS_STORAGE_DIRECTORY=/tmp/hypothesis
CMD ["pytest", "-n", "auto", "--dist", "worksteal", "-p", "no:cacheprovider", "--basetemp", "/data/tests"]


FROM base AS code
COPY webhook_api webhook_api
RUN python -m compileall -q --invalidation-mode unchecked-hash .


FROM base AS runtime
COPY --from=dependencies /venv /venv
COPY --from=code /app/webhook_api webhook_api
COPY wsgi.py gunicorn.conf.py ./
USER 10001:10001
LABEL org.opencontainers.image.title="webhook-api" \
      org.opencontainers.image.description="Receives signed messages over HTTP and stores each of them exactly once" \
      org.opencontainers.image.base.name="python:3.13-slim"
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
# Not urllib: it would use a proxy from the container's environment.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; \
c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8000), timeout=4); \
c.request('GET', '/health/ready'); \
sys.exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "webhook_api"]


FROM runtime AS litestream
COPY --from=litestream/litestream:0.5.17 /usr/local/bin/litestream /usr/local/bin/
