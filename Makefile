# Python and make are all this assumes: each target makes its environment in .venv, from locked
# versions with digests (requirements/*.txt).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := pipelines segmodel tests benchmarks containers examples tools setup.py

.DEFAULT_GOAL := help
.PHONY: help demo test test-all durations test-airflow test-flink test-prism docs lint \
    earth-model picture lock clean

help:
	@echo "make demo         how much of the Earth is ocean, land and lake? (writes to demo/)"
	@echo "make test         lint, types, and the tests that take little (some minutes)"
	@echo "make test-all     lint, types, and all tests but those of the next two lines"
	@echo "make test-airflow the examples for Airflow, Dagster and Argo, each in its own environment"
	@echo "make test-flink   the same command on a Flink of its own (Java 17, Maven; 3 minutes)"
	@echo "make test-prism   the same on a Prism of its own (Go; 2 minutes the first time)"
	@echo "make docs         the documentation as a site (writes to build/site/)"
	@echo "make earth-model  train the demo's model again (about 20 minutes on two cores)"
	@echo "make picture      put the demo's picture into the README"
	@echo "make durations    measure all tests anew: which of them 'make test' leaves out"
	@echo "make lock         resolve the locked versions anew"
	@echo "make clean        remove what these made"

demo: $(VENV)/demo.done
	$(BIN)/beamseg demo --output demo

# Workers take from each other what is left, so that none is idle; see tests/marks.py for the marks.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations=5
QUICK := not slow and not end_to_end and not engine and not airflow
ALL := not flink and not prism and not airflow

test: $(VENV)/test.done lint
	$(PYTEST) -m "$(QUICK)" --junitxml=build/test-report.xml
	@echo "made: environment $(VENV), test report build/test-report.xml"

test-all: export HYPOTHESIS_PROFILE = ci
test-all: $(VENV)/test.done lint
	$(PYTEST) -m "$(ALL)" --junitxml=build/test-report.xml
	@echo "made: environment $(VENV), test report build/test-report.xml"

durations: $(VENV)/test.done
	$(PYTEST) -m "$(ALL)" --measure
	@echo "made: tests/durations.json"

test-airflow: $(VENV)/test.done build/airflow/done build/dagster/done
	$(BIN)/python -m pytest tests/orchestrators --durations=5

test-flink test-prism: test-%: $(VENV)/test.done
	$(BIN)/python -m pytest tests/engines -m $* --durations=5 \
	    --junitxml=build/test-$*-report.xml
	@echo "made: test report build/test-$*-report.xml"

docs: $(VENV)/test.done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "made: build/site/index.html"

lint: $(VENV)/test.done
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

earth-model: $(VENV)/test.done
	$(BIN)/beamseg demo --training_data build/earth
	$(BIN)/beamseg train --config build/earth/train.toml --output build/earth/run
	rm -rf pipelines/earth/model docs/earth-model
	cp -R build/earth/run/model pipelines/earth/model
	mkdir docs/earth-model
	cd build/earth/run && cp -R card.md confusion.png curves.png pictures ../../../docs/earth-model
	@echo "made: pipelines/earth/model, described in docs/earth-model/card.md"

picture: demo
	cp demo/earth.png docs/earth.png
	@echo "made: docs/earth.png"

$(VENV)/created:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	    "beamseg needs Python 3.11, 3.12 or 3.13, found %d.%d: make PYTHON=python3.12 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/%.done: requirements/%.txt pyproject.toml | $(VENV)/created
	@echo "installing locked versions from $<; TensorFlow and Beam take a few minutes"
	$(BIN)/python -m pip install --require-hashes --progress-bar off -r $<
	$(BIN)/python -m pip install --no-deps --no-build-isolation --quiet --editable .
	@touch $@

# Orchestrators start beamseg and share no package with it.
build/%/done: requirements/%.txt
	$(PYTHON) -m venv build/$*
	build/$*/bin/python -m pip install --require-hashes --progress-bar off --quiet -r $<
	@touch $@

lock: $(VENV)/test.done
	$(BIN)/uv pip compile $(LOCK) --extra demo -o requirements/demo.txt
	$(BIN)/uv pip compile $(LOCK) --extra dev -c requirements/demo.txt -o requirements/test.txt
	$(BIN)/uv pip compile $(LOCK_WORKER) --extra gcp -o requirements/worker-cpu.txt
	$(BIN)/uv pip compile $(LOCK_WORKER) --extra gcp --extra gpu -o requirements/worker-gpu.txt
	for name in airflow dagster; do \
	    $(BIN)/uv pip compile $(LOCKING) requirements/$$name.in -o requirements/$$name.txt; done

LOCKING := --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
    --no-emit-index-url --custom-compile-command "make lock" --no-annotate
LOCK := $(LOCKING) pyproject.toml requirements/build.in

LOCK_WORKER := $(filter-out --universal,$(LOCKING)) --python-platform x86_64-manylinux_2_28 \
    -c requirements/test.txt pyproject.toml requirements/build.in

clean:
	rm -rf $(VENV) build demo *.egg-info
