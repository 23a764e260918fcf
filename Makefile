# The front door. Each target does all of its own set-up, the first time: Debian packages (as root; otherwise it names
# what is missing), a virtual environment in .venv, the build. Run again, it is quick.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMPS := build/stamps

# One compiler by one name for all builds, so that ccache finds in one what another has compiled.
export CXX := $(CXX)

# CUDA code is built only where it can run.
PRESET ?= $(shell command -v nvcc >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU && echo cuda || echo cpu)

CPP_FILES = $(shell git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
WHEEL_SOURCES := $(shell find bindings cli cmake include python src -type f -not -path '*/__pycache__/*') \
                 CMakeLists.txt pyproject.toml

.PHONY: help
help:
	@echo 'make demo       denoise a photograph with neighborhood attention'
	@echo 'make test       all tests: C++, command line, Python, examples'
	@echo 'make bench-cpu  measure the CPU kernels beside PyTorch'
	@echo 'make format     format all sources'
	@echo 'make lint       check formatting and run the linters'
	@echo 'make clean      remove build/ (not .venv)'

# --- what users run -------------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(STAMPS)/package
	$(PYTHON) examples/denoise.py

.PHONY: test
test: build $(STAMPS)/package
	ctest --preset $(PRESET) --parallel $(shell nproc)
	$(PYTHON) -m pytest

.PHONY: bench-cpu
bench-cpu: $(STAMPS)/package
	$(PYTHON) -m benchmarks.cpu

# --- set-up and build -----------------------------------------------------------------------------------------------

$(STAMPS)/packages: scripts/install_packages.sh
	@mkdir -p $(@D)
	scripts/install_packages.sh build
	@touch $@

$(STAMPS)/venv: requirements/test.txt $(STAMPS)/packages
	python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --requirement requirements/test.txt
	@touch $@

$(STAMPS)/lint: requirements/lint.txt $(STAMPS)/venv
	$(PYTHON) -m pip install --quiet --requirement requirements/lint.txt
	@touch $@

.PHONY: build
build: $(STAMPS)/packages
	cmake --preset $(PRESET)
	cmake --build --preset $(PRESET)

# The Python package with the `vicinal` program, from a build folder that is kept: only what changed is compiled.
$(STAMPS)/package: $(WHEEL_SOURCES) $(STAMPS)/venv
	$(PYTHON) -m pip install --quiet --no-build-isolation --no-deps . \
	  --config-settings build-dir=build/package-$(PRESET) \
	  --config-settings cmake.define.CMAKE_COMPILE_WARNING_AS_ERROR=ON \
	  --config-settings cmake.define.VICINAL_CUDA=$(if $(filter cuda,$(PRESET)),ON,OFF)
	@touch $@

# --- for developers -------------------------------------------------------------------------------------------------

.PHONY: format
format: $(STAMPS)/lint
	$(VENV)/bin/clang-format -i $(CPP_FILES)
	$(VENV)/bin/ruff format
	$(VENV)/bin/ruff check --fix

.PHONY: lint
lint: $(STAMPS)/lint
	$(VENV)/bin/pre-commit run --all-files

.PHONY: clean
clean:
	rm -rf build
