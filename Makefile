# Both targets need nothing but Python 3.11 or later: they make a virtual environment in .venv and install into it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SIZE ?= full
DEMO ?= demo

# One thread: networks this small do not get faster with two, and far slower where the second core is busy.
# full: minutes on two CPU cores. smoke: the same commands on the least data, to see that they run.
ifeq ($(SIZE),smoke)
  SIMULATE_FLAGS := --takes 4 --frames 40
  TRAIN_FLAGS := training.epochs=2 model.width=16 model.depth=1
else
  SIMULATE_FLAGS := --takes 14 --frames 120
  TRAIN_FLAGS := seed=0
endif

.PHONY: demo test clean

demo: $(VENV)/installed
	rm -rf $(DEMO)/raw $(DEMO)/egohumans.h5 $(DEMO)/run
	$(BIN)/python tools/simulate.py --out $(DEMO)/raw --scenes tagging legoassemble fencing $(SIMULATE_FLAGS)
	$(BIN)/python tools/convert.py egohumans --raw $(DEMO)/raw --out $(DEMO)/egohumans.h5
	$(BIN)/accelerate launch --cpu --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		--num_cpu_threads_per_process 1 \
		train.py --config configs/demo.yaml --set data.files=[$(DEMO)/egohumans.h5] run_dir=$(DEMO)/run $(TRAIN_FLAGS)
	OMP_NUM_THREADS=1 $(BIN)/python tools/evaluate.py --run $(DEMO)/run --data $(DEMO)/egohumans.h5

test: $(VENV)/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

$(VENV)/installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/installed-test: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[test,dev]"
	touch $@ $(VENV)/installed

clean:
	rm -rf $(VENV) $(DEMO)/raw $(DEMO)/egohumans.h5 $(DEMO)/run
