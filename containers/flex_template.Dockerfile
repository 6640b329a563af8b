# Image of the launcher of the Flex Template: the image of a worker, so that jobs are described with
# the packages that they run with, and Google's launcher in it.
ARG WORKER_IMAGE
ARG LAUNCHER_IMAGE=gcr.io/dataflow-templates-base/python311-template-launcher-base:20230622_RC00
FROM ${LAUNCHER_IMAGE} AS launcher

FROM ${WORKER_IMAGE}
ARG WORKER_IMAGE
COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/

COPY containers/flex_template.py /opt/beamseg/containers/
# No FLEX_TEMPLATE_PYTHON_SETUP_FILE: the package is in the images of launcher and workers.
ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/opt/beamseg/containers/flex_template.py \
    WORKER_IMAGE=${WORKER_IMAGE}
ENTRYPOINT ["/opt/google/dataflow/python_template_launcher"]
