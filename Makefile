# make demo            a bundled network restores, then one is trained: minutes
# make web_demo        restore your images in the browser
# make test            lint and all tests, CPU only
# make test_fast       lint and the tests that need no minutes, no browser and no
#                      compiler of a GPU
# make gpu_compiler    what `aot --platform=cuda` needs without a GPU
# make gpu_benchmarks  on an NVIDIA GPU: tests, tiles, figures (docs/kernels.md)
# make gpu_pretrained  on an NVIDIA GPU: trains the bundled light networks further,
#                      DATA=folder that holds bsds500, photos (pretrained/README.md)
#
# Another interpreter: make test PYTHON=python3.11 VENV=.venv311
# The newest of every package: make test CONSTRAINTS= VENV=.venv_newest
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
# What was tested together; a Python without such a file gets the newest.
MINOR = $(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])")
CONSTRAINTS = $(wildcard constraints/python$(MINOR).txt)
INSTALL = $(RUN) -m pip install --quiet --disable-pip-version-check \
  $(CONSTRAINTS:%=--constraint=%)
# Apart from the venv, where JAX would look for a GPU at every start.
GPU_COMPILER := $(VENV)_gpu
DEMO := runs/demo
FIGURES := benchmarks/results
FURTHER := runs/further
# The least trained come first, for a GPU that is lent.
LIGHT := photo_light jpeg_color_light denoise_gray_light demosaic_light \
  denoise_color_light denoise_files_light sr_x2_light sr_x4_light

.PHONY: demo web_demo test test_fast lint gpu_compiler gpu_required
.PHONY: gpu_benchmarks gpu_tests gpu_tiles gpu_figures gpu_pretrained

# Two photographs get noise of sigma 25; the bundled network removes it, and then
# one that learned for some minutes here.
demo: $(VENV)/.installed
	$(RUN) eval.py --config=configs/denoise.py:demo \
	  --checkpoint=denoise_color_light --workdir=$(DEMO)/bundled
	$(RUN) restore.py --overwrite --checkpoint=denoise_color_light \
	  --input=$(DEMO)/bundled/eval/photographs/input/chelsea.png \
	  --reference=$(DEMO)/bundled/eval/photographs/target/chelsea.png \
	  --output=$(DEMO)/restored
	$(RUN) train.py --config=configs/denoise.py:demo --workdir=$(DEMO)/trained
	$(RUN) eval.py --config=configs/denoise.py:demo --workdir=$(DEMO)/trained

web_demo: $(VENV)/.installed_demo
	$(RUN) demo.py

PYTEST = $(RUN) -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder

test: $(VENV)/.installed_demo $(GPU_COMPILER)/.installed lint
	$(PYTEST)

test_fast: $(VENV)/.installed lint
	$(PYTEST) -m "not slow"

lint: $(VENV)/.installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

gpu_compiler: $(GPU_COMPILER)/.installed
	@echo "set PYTHONPATH=$(abspath $(GPU_COMPILER))"

# Each part may be cut off and started again; all but the tests go on then.
gpu_benchmarks:
	$(MAKE) gpu_tests
	$(MAKE) gpu_tiles
	$(MAKE) gpu_figures

gpu_required:
	$(RUN) -c "import jax; assert jax.default_backend() == 'gpu', jax.devices()"

# Without a GPU the tests would be skipped, and the skip overlooked.
gpu_tests: gpu_required
	$(RUN) -m pytest tests/attention_triton_test.py tests/dictionary_triton_test.py

gpu_tiles:
	$(RUN) -m benchmarks.tune_attention

# One after the other: each takes the whole GPU.
gpu_figures:
	$(RUN) -m benchmarks.attention --out=$(FIGURES)/attention_gpu.json
	$(RUN) -m benchmarks.models --out=$(FIGURES)/models_gpu.json
	$(RUN) -m benchmarks.attention_memory --out=$(FIGURES)/attention_memory_gpu.json

# One after the other; started again, it goes on where it was. No bundled network has
# seen the crops and the noise of seed 3.
gpu_pretrained: $(LIGHT:%=$(FURTHER)/%.safetensors)

# Four times as many patches: at quality 10 it is 0.1 dB short of 27.6, our aim on LIVE1.
# Most of the patches begin a file, and the loss is the squared error: on a CPU, in one
# run each, either gave whole files 0.01 dB (pretrained/README.md). An H200 compiled for
# 80 s and took 18.6 steps/s, so that it fits a loan of ten minutes; since, `remat` and
# `unroll` have taken away two thirds of the memory and 60 % of its traffic by the compiler
# (docs/scaling.md), their time is not measured.
OPTIONS :=
$(FURTHER)/jpeg_color_light.safetensors: OPTIONS = \
  --config.train.batch_size=32 --config.train.num_steps=8400 \
  --config.schedule.hold_steps=3400 --config.loss.name=l2 \
  --config.data.degradation.aligned=0.75 --config.model.unroll=True
# Else it would forget the strong colours that its last trainings taught it.
$(FURTHER)/denoise_color_light.safetensors: OPTIONS = \
  --config.data.shrink="(1.0,2.0)" --config.data.saturation="(1.0,3.0)"

$(FURTHER)/%.safetensors: | gpu_required
	$(RUN) train.py --config=configs/pretrained.py:$*,further --config.seed=3 \
	  --config.data.data_dir=$(or $(DATA),$(error DATA= the folder of bsds500 and photos)) \
	  --workdir=$(FURTHER)/$* $(OPTIONS)
	JAX_PLATFORMS=cpu $(RUN) -m semanir_jax.weights --dtype=float32 \
	  --checkpoint=$(FURTHER)/$* --output=$@

# Only a finished installation leaves the stamp, so a broken one is repeated.
$(VENV)/.installed: requirements.txt $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -r requirements.txt
	touch $@

$(VENV)/.installed_demo: requirements_demo.txt $(VENV)/.installed
	$(INSTALL) -r requirements.txt -r requirements_demo.txt
	touch $@

# Of the version of the JAX in the venv, 0.7 GB.
$(GPU_COMPILER)/.installed: requirements_gpu_compiler.txt $(VENV)/.installed
	rm -rf $(GPU_COMPILER) && mkdir $(GPU_COMPILER)
	JAX_VERSION=$$($(RUN) -c "import jax; print(jax.__version__)") \
	  $(INSTALL) --no-deps --target=$(GPU_COMPILER) -r requirements_gpu_compiler.txt
	touch $@
