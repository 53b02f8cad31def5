# make demo    train, evaluate and restore on two CPU cores, in minutes
# make test    lint and tests, CPU only
#
# Another interpreter: make test PYTHON=python3.11 VENV=.venv311
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
DEMO := runs/demo
DEMO_SET := $(DEMO)/eval/photographs

.PHONY: demo test

demo: $(VENV)/.installed
	$(RUN) train.py --config=configs/denoise.py:demo --workdir=$(DEMO)
	$(RUN) eval.py --config=configs/denoise.py:demo --workdir=$(DEMO)
	$(RUN) restore.py --checkpoint=$(DEMO) --output=$(DEMO)/restored \
	  --input=$(DEMO_SET)/input/chelsea.png \
	  --reference=$(DEMO_SET)/target/chelsea.png

test: $(VENV)/.installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest

# Only a finished installation leaves the stamp, so a broken one is repeated.
$(VENV)/.installed: requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
