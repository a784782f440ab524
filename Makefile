# Two commands do all on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install demo docs test lint bench bench-quality wheel clean

# The stamp holds the virtual environment that constraints.txt and pyproject.toml ask for. Modules are compiled when they
# are first imported: most never are, and compiling all takes twice as long as the rest.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[cluster,dev,docs,efficientnet,hf,nwb,s3,sleap,tune,wandb]'
	touch $@

install: $(VENV)/.installed

demo: install
	$(BIN)/pipeline demo --out demo

test: install
	$(BIN)/python -m pytest -n 2

# The site of docs/, into site/; a dead link or a page that nothing leads to is an error.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Needs ffmpeg; takes about half an hour, and an idle machine to mean anything.
bench: install
	$(BIN)/python -m pip install --quiet opencv-python-headless
	$(BIN)/python benchmarks/speed.py bench --compile

# An environment of its own for the peer, without what only its video models need.
PEER := bench/lightning-action
$(PEER)/.installed:
	$(PYTHON) -m venv $(PEER)
	$(PEER)/bin/pip install --quiet --no-deps lightning-action==1.0.2
	$(PEER)/bin/pip install --quiet torch "lightning>=2.5,<3" "numpy>=2" pandas scikit-learn tensorboard pyyaml jaxtyping "typeguard<3"
	touch $@

# Scores, of benchmarks/QUALITY.md: RAT_SOCIAL is the unpacked data set, FOLDS its table of folds. Takes days on two cores;
# what is done is not done again.
bench-quality: install $(PEER)/.installed
	$(BIN)/python -m pip install --quiet lightgbm
	for labels in social aggression; do \
	  for time in none clip entry; do \
	    $(BIN)/python benchmarks/peer_lightgbm.py $(RAT_SOCIAL) bench/lightgbm --folds $(FOLDS) --label-set $$labels --time $$time || exit 1; \
	  done; \
	  for fold in 0 1 2 3 4; do \
	    $(BIN)/python benchmarks/peer_lightning_action.py $(RAT_SOCIAL) bench/peer --folds $(FOLDS) --label-set $$labels --fold $$fold \
	      --epochs 6 --sides peer --peer model.num_layers=5 --peer-python $(PEER)/bin/python || exit 1; \
	  done; \
	  $(BIN)/python benchmarks/quality_pose.py $(RAT_SOCIAL) bench/pose --folds $(FOLDS) --label-set $$labels --rows all \
	  || exit 1; done
	$(BIN)/python benchmarks/before_after.py bench/video --epochs 20
	$(BIN)/python benchmarks/before_after.py bench/video60 --recordings 60 --epochs 10 --seeds 1 --rows all
	$(BIN)/python benchmarks/before_after.py bench/video60lost --recordings 60 --epochs 10 --seeds 1 --rows all --lost 0.4

wheel: install
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist demo bench site *.egg-info
