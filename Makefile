# Everything runs in the virtual environment .venv; `make demo VENV=/path/to/venv` uses another one.
VENV ?= .venv
PYTHON ?= python3
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
# Mixers of the demonstration; those of the paper by default.
MIXERS ?=
DEMO := tools/demo.py $(if $(MIXERS),--mixers $(MIXERS))

.PHONY: help demo demo-full analyze gpu gpu-bundle test faults errors lint format install clean

help:
	@echo 'make demo       train and evaluate five mixers on generated scenes, then tables and a report;'
	@echo '                MIXERS=all for all mixers, MIXERS="nat ss2d" for these two'
	@echo 'make demo-full  the same with trainings twice as long'
	@echo 'make analyze    demo-full, then receptive fields, invariance and robustness of the detectors'
	@echo 'make gpu        check the GPU of this machine: correctness, trainings, speed, in nine minutes'
	@echo 'make gpu-bundle write a folder that does this on a machine without network; TARGET=3.12'
	@echo 'make test       run the tests and the linter'
	@echo 'make faults     interrupt and damage trainings, and count what is lost (docs/reliability.md)'
	@echo 'make errors     update docs/errors.md by trying every bad input'
	@echo 'make lint       run the linter and the spelling check'
	@echo 'make format     format the code'
	@echo 'make install    set up $(VENV) only'
	@echo 'make clean      remove the output of the demonstration'

demo: $(READY)
	$(RUN) $(DEMO)

demo-full: $(READY)
	$(RUN) $(DEMO) --full

analyze: $(READY)
	$(RUN) $(DEMO) --analyze

gpu: $(READY)
	$(RUN) tools/check_gpu.py

gpu-bundle: $(READY)
	$(RUN) tools/gpu_bundle.py $(if $(TARGET),--python $(TARGET))

test: $(READY) lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist worksteal

faults: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -v tests/faults --full

errors: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q tests/tools tests/faults --write-errors docs/errors.md

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m codespell_lib

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

install: $(READY)

clean:
	rm -rf work_dirs/demo work_dirs/demo_full

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) tools/set_up.py $(VENV)
	@touch $@
