# make demo            a bundled network restores, then one is trained: minutes
# make web_demo        restore your images in the browser
# make test            lint and all tests, CPU only
# make test_fast       lint and the tests that need no minutes, no browser and no
#                      compiler of a GPU or a TPU
# make gpu_compiler    what `aot --platform=cuda` needs without a GPU
# make tpu_compiler    what `aot` needs without a TPU
# make gpu_benchmarks  on an NVIDIA GPU: tests, tiles, figures (docs/kernels.md)
# make gpu_queue       on an NVIDIA GPU: trains the bundled light networks further,
#                      DATA=folder that holds bsds500, photos (pretrained/README.md);
#                      MINUTES=10 of a GPU that is lent
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
# Apart from the venv, where JAX would look for a GPU or a TPU at every start.
GPU_COMPILER := $(VENV)_gpu
TPU_COMPILER := $(VENV)_tpu
DEMO := runs/demo
FIGURES := benchmarks/results
# The least trained come first, for a GPU that is lent.
NETWORKS := photo_light sr_x4_light sr_x2_light \
  jpeg_color_light denoise_gray_light demosaic_light denoise_color_light \
  denoise_files_light
COMMA := ,
SPACE := $(subst ,, )

.PHONY: demo web_demo test test_fast lint gpu_compiler tpu_compiler gpu_required
.PHONY: gpu_benchmarks gpu_tests gpu_tiles gpu_figures gpu_queue

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

test: lint $(GPU_COMPILER)/.installed $(TPU_COMPILER)/.installed
	$(PYTEST)

test_fast: lint
	$(PYTEST) -m "not slow"

# Types are checked against all that the code imports, the web demo's gradio too.
lint: $(VENV)/.installed_demo
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

gpu_compiler: $(GPU_COMPILER)/.installed
	@echo "set PYTHONPATH=$(abspath $(GPU_COMPILER))"

tpu_compiler: $(TPU_COMPILER)/.installed
	@echo "set PYTHONPATH=$(abspath $(TPU_COMPILER))"

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

# For a GPU that is there for MINUTES at a time: each training goes on where it was, and
# what it has learned lies in runs/queue. NETWORKS="photo_light" trains that one.
gpu_queue: gpu_required
	$(RUN) -m semanir_jax.training.queue --output=runs/queue \
	  --networks=$(subst $(SPACE),$(COMMA),$(strip $(NETWORKS))) \
	  --data_dir=$(or $(DATA),$(error DATA= the folder of bsds500 and photos)) \
	  $(MINUTES:%=--minutes=%)

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

# Of the version that the JAX in the venv names for jax[tpu], 0.7 GB.
LIBTPU = from importlib import metadata; \
  print(*(r.split(";")[0] for r in metadata.requires("jax") if "libtpu" in r))
$(TPU_COMPILER)/.installed: $(VENV)/.installed
	rm -rf $(TPU_COMPILER) && mkdir $(TPU_COMPILER)
	LIBTPU="$$($(RUN) -c '$(LIBTPU)')" && \
	  $(INSTALL) --no-deps --target=$(TPU_COMPILER) "$$LIBTPU"
	touch $@
