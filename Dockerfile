# One image for every process of the product: the command says which one it is (see compose.yaml).
FROM python:3.11-slim AS build
WORKDIR /opt/bharatrouter
COPY uv.lock.txt requirements.lock ./
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir --require-hashes -r uv.lock.txt \
    && .venv/bin/uv pip install --no-cache --python .venv/bin/python --require-hashes -r requirements.lock
COPY . .
RUN ./run --setup-only requirements.lock && .venv/bin/uv pip uninstall --python .venv/bin/python uv

FROM python:3.11-slim
# What WeasyPrint draws documents with.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --user-group --create-home --home-dir /var/lib/bharatrouter bharatrouter
COPY --from=build /opt/bharatrouter /opt/bharatrouter
ENV PATH=/opt/bharatrouter/.venv/bin:$PATH BHARATROUTER_HOME=/var/lib/bharatrouter HOST=0.0.0.0
USER bharatrouter
EXPOSE 8000
ENTRYPOINT ["bharatrouter"]
CMD ["up"]
