# Everything runs in a virtual environment of its own; `make demo VENV=/path/to/venv` chooses another.
VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help demo analyze test faults errors lint format install clean

help:
	@echo 'make demo     pretrain, train, evaluate and tabulate all mixers on generated scenes'
	@echo 'make analyze  the same, then analyze what the detectors see and withstand'
	@echo 'make test     run the tests and the linter'
	@echo 'make faults   kill, starve and damage trainings, and count what was lost (docs/reliability.md)'
	@echo 'make errors   write docs/errors.md again, by trying every bad input'
	@echo 'make lint     run the linter alone'
	@echo 'make format   format the code'
	@echo 'make install  only set up $(VENV)'
	@echo 'make clean    remove what the demonstration wrote'

demo: $(READY)
	$(RUN) tools/demo.py

analyze: $(READY)
	$(RUN) tools/demo.py --analyze

test: $(READY) lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal

faults: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -v tests/faults --full

errors: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q tests/tools tests/faults --write-errors docs/errors.md

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

install: $(READY)

clean:
	rm -rf work_dirs/demo

# The OpenMMLab packages ask for both builds of OpenCV, which overwrite each other's files. The headless
# one must be the last, since the other needs libGL at run time.
$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || \
	  { echo 'error: $(PYTHON) is not Python 3.10 to 3.12; name one with PYTHON=python3.11' >&2; exit 2; }
	@echo 'Setting up $(VENV): about 4 minutes and 6 GB'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --progress-bar on -c constraints.txt -e .[test]
	$(RUN) -m pip install -q --force-reinstall --no-deps -c constraints.txt opencv-python-headless
	@touch $@
