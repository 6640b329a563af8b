# Image of a worker without a GPU: for Dataflow, and for other runners that start Beam's containers.
# Built from the root of the repository, see docs/dataflow.md.
FROM python:3.11-slim-bookworm

# The wheel of rasterio expects the system's libexpat, which slim images leave out.
# Not pinned, as Debian keeps no other version than the last one.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/*

# Beam's entry point; of the Beam in the locked requirements.
COPY --from=apache/beam_python3.11_sdk:2.77.0 /opt/apache/beam /opt/apache/beam

ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /opt/beamseg

# Packages before our code: they are the large layer, and change less often.
COPY requirements/worker-cpu.txt requirements/
RUN python -m pip install --require-hashes -r requirements/worker-cpu.txt

COPY pyproject.toml setup.py README.md LICENSE ./
COPY pipelines/ pipelines/
COPY segmodel/ segmodel/
RUN python -m pip install --no-deps --no-build-isolation --editable . \
    && python -m pip check

# Without this, the entry point makes a virtual environment anew in each process that it starts.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
ENTRYPOINT ["/opt/apache/beam/boot"]
