# Everything a newcomer needs; each target sets up what it lacks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo app test lint docs bench attack-table nulls robust-pruning example emoji clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

install: $(VENV)/.installed  ## the environment that the other targets use

demo: $(VENV)/.installed  ## the default study on the bundled model
	$(BIN)/workbench demo

app: $(VENV)/.installed  ## the pages, on 127.0.0.1
	$(BIN)/workbench app

test: $(VENV)/.developing  ## the whole test suite, a process per core (at most 4), whole files each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations 25

lint: $(VENV)/.developing  ## style of code, and types of the rooms that pyproject.toml lists
	$(BIN)/ruff check workbench pages tests data benchmarks experiments docs
	$(BIN)/ruff format --check workbench pages tests data benchmarks experiments docs
	$(BIN)/mypy

docs: $(VENV)/.developing  ## the parts of the documentation that the code knows
	$(BIN)/python -m docs.write

bench: $(VENV)/.developing  ## ratios measured side by side; DEVICE=cuda has those with a model on a GPU
	$(BIN)/python benchmarks/start.py
	$(BIN)/python benchmarks/pages.py
	$(BIN)/python benchmarks/stages.py
	$(BIN)/python benchmarks/recording.py
	$(BIN)/python benchmarks/attacks_batched.py
	$(BIN)/python benchmarks/ablation.py
	$(BIN)/python benchmarks/lab.py
	$(BIN)/python benchmarks/learned_mask.py
	$(BIN)/python benchmarks/erasers.py
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/offload.py
	$(BIN)/python -m experiments.plantings.run

attack-table: $(VENV)/.developing  ## every attack on every concept of the bundled model, 100 units each (up to 3 hours; resumes)
	$(BIN)/python -m experiments.attack_table.run

nulls: $(VENV)/.developing  ## what is said where nothing was done: null calibration on the bundled model (up to 2 hours; resumes)
	OMP_NUM_THREADS=1 $(BIN)/python -m experiments.nulls.run

robust-pruning: $(VENV)/.developing  ## does pruning keep a concept erased? ink and church side by side (resumes; --dry-run says how long)
	export OMP_NUM_THREADS=1; $(BIN)/python -m experiments.robust_pruning.run --concepts ink & first=$$!; \
	$(BIN)/python -m experiments.robust_pruning.run --concepts church && wait $$first || exit 1
	$(BIN)/python -m experiments.robust_pruning.run --tables

example: $(VENV)/.installed  ## the example run that ships, from emoji-ink-neurons (about 25 minutes; resumes)
	$(BIN)/python -m experiments.example.run

emoji: $(VENV)/.installed  ## build the bundled model anew (about 2 h 35 min; resumes)
	cd data/emoji/build && PYTHONPATH=../../.. ../../../$(BIN)/python build.py

clean:
	rm -rf $(VENV) runs
