# make book: everything from a fresh clone to book/_build/html. make test: the same set-up, then the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
EXTRAS := book,test,endpoint,cluster
NODE := book/node_modules/.package-lock.json

# Questions that lie beside the checkout are used; else geolib fetches them from their public home.
ifneq ($(wildcard ../shared/data/gsm8k_zero.jsonl),)
export GEOLIB_DATA ?= $(abspath ../shared/data)
endif

ALONE ?=
ADDRESS ?=
FAULTS ?=
# From Python 3.12 on, sys.monitoring counts the lines that ran at little cost; older ones count nothing.
COVER = $(shell $(BIN)/python -c 'from importlib.util import find_spec; import sys; \
	print("--cov --cov-report=" * (sys.version_info >= (3, 12) and find_spec("pytest_cov") is not None))')
# "anew": random tests draw other cases than each time.
DRAW ?=

.PHONY: book unit test check bench alone faults audit canary assignments slides pdf epub note links lint style home pair constraints clean help

help: ## Show what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' \
		|| { echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1), but Python 3.11 or newer was expected (make PYTHON=...)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=24.1'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

# Where npm is missing the build says what follows from it.
$(NODE): book/package.json book/package-lock.json
	@npm ci --prefix book --ignore-scripts --no-audit --no-fund --silent >/dev/null 2>&1 || true

book: $(READY) $(NODE) ## Execute the notebooks and render the book to book/_build/html
	@$(BIN)/geolib models --fetch
	@$(BIN)/geolib data
	@$(BIN)/python -m tools build

unit: $(READY) ## Run the quick tests: no model, no browser, no processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m unit --durations=20

test: style $(NODE) ## Run the tests, and show the slowest
	@$(BIN)/geolib models --fetch
	OMP_NUM_THREADS=1 GEOLIB_DRAW=$(DRAW) COVERAGE_CORE=sysmon $(BIN)/python -m pytest -n auto --durations=20 $(COVER)
	@$(if $(COVER),$(BIN)/coverage report --format=total | sed 's/.*/coverage: & % of the lines of geolib/')

faults: $(READY) ## Kill, cut, fill and damage what runs and what is kept, and see that nothing is lost
	@$(BIN)/geolib models --fetch
	$(BIN)/python tests/faults.py $(FAULTS)

audit: $(READY) ## Look for weaknesses, in the code and in what it needs (the second asks the network)
	$(BIN)/bandit --quiet --recursive geolib tools --severity-level medium
	$(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/python -m pip install --quiet pip-audit
	$(VENV)-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off

bench: $(READY) ## Time plane partitions against the fastest other tool (on Linux x86-64, for which it has a wheel)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/partition_plane.py

alone: $(READY) ## Run each .ipynb as Colab does, with nothing else at hand (ALONE="notebooks/start ...": these)
	$(BIN)/python -m tools alone $(ALONE)

check: $(READY) ## Look at the built book in a browser: links, errors, accessibility
	$(BIN)/python -m tools check

assignments: $(READY) ## Make the assignments' zip: the students' notebooks and, with solutions, yours
	@$(BIN)/python -m tools assignments --check

slides: $(READY) $(NODE) ## Make slides of each part of the built book, with notes, in book/_build/slides
	@$(BIN)/python -m tools slides

pdf: $(READY) ## Make one PDF of the built book, in book/_build/print
	@$(BIN)/python -m tools pdf

epub: $(READY) ## Make one EPUB of the built book, in book/_build/print
	@$(BIN)/python -m tools epub

note: $(READY) ## Make a note of the page What we found, a PDF in two columns, in book/_build/print
	@$(BIN)/python -m tools note

links: $(READY) ## Try every link that leads out of the built book (needs the network)
	@PYTHONPATH=. $(BIN)/jupyter-book build book/_build/stage --path-output book/_build/links --builder linkcheck --quiet

lint: style ## Check style, spelling, types, that each chapter has what a chapter has, and its .ipynb in step
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/test_notebooks.py -m unit

style: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	@$(BIN)/python -m tools pair --check

dist: $(READY) ## Build the wheel and the source archive, and use the wheel in an empty environment
	rm -rf dist $(VENV)-dist
	$(BIN)/python -m pip install --quiet -c constraints.txt build
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv $(VENV)-dist
	$(VENV)-dist/bin/python -m pip install --quiet -c constraints.txt dist/*.whl
	cd dist && ../$(VENV)-dist/bin/geolib dimension --text "Mara picked 12 plums." --json

home: $(READY) ## Write the address of your own copy everywhere (ADDRESS=https://github.com/OWNER/NAME)
	@$(BIN)/python -m tools home $(ADDRESS)

pair: $(READY) ## Refresh the .ipynb that Colab opens from their Markdown sources
	@$(BIN)/python -m tools pair

constraints: ## Pin the newest versions that fit pyproject.toml (torch stays)
	rm -rf $(VENV)-new && $(PYTHON) -m venv $(VENV)-new
	$(VENV)-new/bin/python -m pip install --quiet --upgrade pip
	grep -E '^torch==' constraints.txt > $(VENV)-new/torch.txt
	$(VENV)-new/bin/python -m pip install --quiet -c $(VENV)-new/torch.txt '.[$(EXTRAS),bench]'
	$(VENV)-new/bin/python -m pip freeze --exclude geometry-of-reasoning | sed 's/+cpu//' > constraints.txt
	rm -rf $(VENV)-new

canary: ## Run the tests with the newest versions that fit, say which are newer, and what breaks
	rm -rf $(VENV)-canary && $(PYTHON) -m venv $(VENV)-canary
	$(VENV)-canary/bin/python -m pip install --quiet --upgrade pip
	grep -E '^torch==' constraints.txt > $(VENV)-canary/torch.txt
	$(VENV)-canary/bin/python -m pip install --quiet -c $(VENV)-canary/torch.txt -e '.[$(EXTRAS)]'
	@$(VENV)-canary/bin/python -m pip freeze --exclude-editable | sed 's/+cpu//' | diff constraints.txt - | grep '^[<>]' \
		|| echo "canary: nothing is newer than constraints.txt"
	OMP_NUM_THREADS=1 $(VENV)-canary/bin/python -m pytest -n auto $(CANARY) \
		--deselect tests/test_package.py::test_what_is_installed_is_what_is_pinned

clean: ## Remove what was built (the environment and the caches stay)
	rm -rf book/_build build dist
