# make demo          train, evaluate and restore on two CPU cores, in minutes
# make test          lint and tests, CPU only
# make gpu_compiler  what `training.aot --platform=cuda` needs without a GPU
#
# Another interpreter: make test PYTHON=python3.11 VENV=.venv311
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# Apart from the venv, where JAX would look for a GPU at every start.
GPU_COMPILER := $(VENV)_gpu
DEMO := runs/demo
DEMO_SET := $(DEMO)/eval/photographs

.PHONY: demo test gpu_compiler

demo: $(VENV)/.installed
	$(RUN) train.py --config=configs/denoise.py:demo --workdir=$(DEMO)
	$(RUN) eval.py --config=configs/denoise.py:demo --workdir=$(DEMO)
	$(RUN) restore.py --overwrite --checkpoint=$(DEMO) --output=$(DEMO)/restored \
	  --input=$(DEMO_SET)/input/chelsea.png \
	  --reference=$(DEMO_SET)/target/chelsea.png

test: $(VENV)/.installed $(GPU_COMPILER)/.installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

gpu_compiler: $(GPU_COMPILER)/.installed
	@echo "set PYTHONPATH=$(abspath $(GPU_COMPILER))"

# Only a finished installation leaves the stamp, so a broken one is repeated.
$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

# Of the version of the JAX in the venv, 0.7 GB.
$(GPU_COMPILER)/.installed: requirements_gpu_compiler.txt $(VENV)/.installed
	rm -rf $(GPU_COMPILER) && mkdir $(GPU_COMPILER)
	JAX_VERSION=$$($(RUN) -c "import jax; print(jax.__version__)") \
	  $(RUN) -m pip install --quiet --disable-pip-version-check --no-deps \
	  --target=$(GPU_COMPILER) -r requirements_gpu_compiler.txt
	touch $@
