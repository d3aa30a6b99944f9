# The commands to remember. Each sets up what it needs in ./.venv.
#   make demo     the main job, end to end, on embedded parts (no Docker, no root, no account)
#   make test     every test (as root on Debian it installs Prometheus, Alertmanager and Chromium first)
#   make check    formatting, lint, types, layers (no test), under 90 seconds
#   make loop     advise, apply each fix, measure: did the predictions come true? (17 minutes)
#   make page     rehearse a page at night: faults in the running example until the page arrives
#   make format   what `make check` can mend by itself
#   make clean    the environment and the outputs go
#
# The rest takes longer than a test may. The last output of each is in docs/results/, pictures are in docs/images/.
# The agent:
#   make bench-agent       what watching costs a request: plain, stock, OpenLIT, ddtrace, Logfire and ours
#   make prove-account     10,000 requests, 200 at once, in every shape, against a tally; every rate of sampling
#   make prove-foreign     two services of someone else's making under the agent, against Postgres's and the provider's counts
#   make prove-harmless    every function of the agent made to raise; 100,000 requests with a dead collector; p99 with bad ones
#   make prove-prices      recorded answers through Taximeter, OpenLIT and Logfire (installs the two beside it)
#   make prove-typescript  the hashing contract in another language (needs node)
#   make prove-versions    the agent's tests on each Python and set of OpenTelemetry that is said to work
#   make prove-workers     the books of four workers (uvicorn, gunicorn, --preload, Celery) while the provider comes and goes
# The collector:
#   make bench-collector   what a span costs: ours and the official collector, one pinned core
#   make prove-day         a day of traffic in eight minutes, the collector's clock as fast (needs faketime)
#   make prove-durable     nothing lost, nothing twice: kills, outages, full disk, damage; the official one beside it
#   make prove-fleet       through an official collector: the same series and figures as directly
#   make prove-hostile     a million mutated requests, bombs, slow senders and floods
#   make prove-node        a Node service without the agent, against three ledgers (needs node and npm)
#   make prove-sampling    20,000 traces through tail sampling here and in the official collector
# The analysis:
#   make bench-analysis    report over 5 and 100 million spans, beside SQLite and Phoenix (10 GB of disk)
#   make prove-gate        the budget's gate: false alarms, power, missing data, on recorded requests
#   make prove-loadtest    100 and 1,000 concurrent guests sent to the example, in interleaved blocks
#   make prove-readers     one run asked of the store, a real Tempo, Prometheus and the official collector's files
#   make pictures          report, serve and top in a real browser and terminal (needs chromium and tmux)
# The advisor:
#   make prove-curves      the hit-rate curves of caches against caches that are run
#   make prove-discover    `taximeter discover` on five open code bases, against labels made by hand
#   make prove-indexes     indexes and search functions: what is advised, created and measured on a loaded Postgres
#   make prove-n-plus-one  N+1 in 240 labelled traces of real runs: ours, Sentry's rules, perf-sentinel
#   make prove-parallel    thirty generated routes: what may run at once, and how fast it then is
#   make prove-variants    20 variants of the example, drawn from a seed: what the advisor finds (long)
# Dashboards, alerts and other people's programs:
#   make dashboards-pictures  the dashboards, drawn by Grafana's own libraries (needs npm)
#   make official-tools       the official collector, Compose's loader, kustomize and a Prometheus 3 (needs Go)
#   make prove-alerts         every alert's promtool cases, thirty times over
#   make prove-pages          a simulated day raises no alert, and each of 22 regressions raises its own
#   make prove-stack          Prometheus 2.42 and 3.x by every way, and a real Tempo, on one run of the example
#
# Other people's programs are found on PATH, in ~/.cache/taximeter (make official-tools), or by TAXIMETER_OTELCOL,
# TAXIMETER_PROMETHEUS (a second one), TAXIMETER_TEMPO and TAXIMETER_PERF_SENTINEL (cargo install perf-sentinel).
PYTHON ?= python3
BIN := .venv/bin
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DEFAULT_GOAL := help
# Every target is a command, none is a file (but the stamps in .venv, which are not named here).
.PHONY: help demo test check format loop page clean system-packages \
  bench-agent prove-account prove-foreign prove-harmless prove-prices prove-typescript prove-versions prove-workers \
  bench-collector prove-day prove-durable prove-fleet prove-hostile prove-node prove-sampling \
  bench-analysis prove-gate prove-loadtest prove-readers pictures \
  prove-curves prove-discover prove-indexes prove-n-plus-one prove-parallel prove-variants \
  dashboards-pictures official-tools prove-alerts prove-pages prove-stack

help:
	@sed -n 's/^# \{0,1\}//p;/^PYTHON/q' Makefile

demo: .venv/demo.stamp
	@$(BIN)/python -m examples.demo $(DEMO_ARGS)

test: .venv/dev.stamp system-packages
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: .venv/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

loop: .venv/demo.stamp
	@$(BIN)/python -m examples.loop $(LOOP_ARGS)

page: .venv/demo.stamp system-packages
	@$(BIN)/python -m examples.page $(PAGE_ARGS)

clean:
	rm -rf .venv demo-output .mypy_cache .ruff_cache .pytest_cache

# --- the agent ---

bench-agent: .venv/dev.stamp
	$(BIN)/python -m benchmarks.agent --output docs/results/agent-bench.md $(BENCH_ARGS)

prove-account: .venv/dev.stamp
	SOAK_REQUESTS=10000 SOAK_CONCURRENT=200 $(BIN)/python -m pytest -q -s tests/agent/test_account_soak.py
	PROVE_SAMPLING=1 $(BIN)/python -m pytest -q -s tests/agent/test_sampling.py

# TAXIMETER_FOREIGN names a folder with clones of the two, where they cannot be fetched.
prove-foreign: .venv/dev.stamp
	@$(BIN)/python -m tools.prove_foreign

prove-harmless: .venv/dev.stamp
	PROVE_HARMLESS=1 $(BIN)/python -m pytest -q -s tests/agent/test_harmless.py tests/agent/test_bad_collectors.py
	$(BIN)/python -m tests.agent.prove_harmless
	$(BIN)/python -m tests.agent.prove_latency

prove-prices: .venv/dev.stamp
	@$(BIN)/python -m tools.prove_prices

prove-typescript:
	@tools/prove_typescript.sh

prove-versions: .venv/dev.stamp
	@$(BIN)/python -m tools.prove_versions $(VERSIONS_ARGS)

prove-workers: .venv/dev.stamp
	$(BIN)/python -m tests.e2e.prove_workers
	PROVE_WORKERS=1 $(BIN)/python -m pytest -q tests/agent/test_celery.py

# --- the collector ---

bench-collector: .venv/dev.stamp
	@$(BIN)/python -m benchmarks.collector $(BENCH_ARGS)

prove-day: .venv/dev.stamp
	@$(BIN)/python -m tests.collector.prove_day $(PROVE_ARGS)

prove-durable: .venv/dev.stamp
	@$(BIN)/python -m tests.collector.prove_durable $(PROVE_ARGS)

prove-fleet: .venv/dev.stamp system-packages
	@$(BIN)/python -m tests.collector.prove_fleet

prove-hostile: .venv/dev.stamp
	@$(BIN)/python -m tests.collector.prove_hostile $(PROVE_ARGS)

prove-node: .venv/dev.stamp
	@$(BIN)/python -m examples.node_service

prove-sampling: .venv/dev.stamp
	@$(BIN)/python -m tests.collector.prove_sampling

# --- the analysis ---

bench-analysis: .venv/dev.stamp
	@$(BIN)/python -m benchmarks.analysis $(BENCH_ARGS)

prove-gate: .venv/dev.stamp
	@$(BIN)/python -m benchmarks.prove_gate

prove-loadtest: .venv/dev.stamp
	@$(BIN)/python -m benchmarks.prove_loadtest

prove-readers: .venv/dev.stamp
	@$(BIN)/python -m tests.analysis.prove_readers

pictures: .venv/dev.stamp system-packages
	$(BIN)/python -m tests.analysis.pictures $(PICTURES_ARGS)

# --- the advisor ---

prove-curves: .venv/dev.stamp
	@$(BIN)/python -m benchmarks.prove_curves

# TAXIMETER_CODEBASES: a folder of git directories; without it they are cloned from GitHub.
prove-discover: .venv/dev.stamp
	@$(BIN)/python -m benchmarks.discover

prove-indexes: .venv/dev.stamp
	@$(BIN)/python -m benchmarks.prove_indexes

prove-n-plus-one: .venv/dev.stamp
	@$(BIN)/python -m benchmarks.prove_n_plus_one

prove-parallel: .venv/dev.stamp
	@$(BIN)/python -m benchmarks.parallel $(PROVE_ARGS)

prove-variants: .venv/demo.stamp
	@$(BIN)/python -m examples.loop.variants $(VARIANTS_ARGS)

# --- dashboards, alerts and other people's programs ---

# Grafana's libraries from npm (400 MB) go to TAXIMETER_PICTURES_MODULES, outside the tree.
dashboards-pictures: .venv/dev.stamp system-packages
	$(BIN)/python -m tools.pictures.render $(PICTURES_ARGS)

# Kept in ~/.cache/taximeter, outside the tree.
official-tools:
	@tools/official/build.sh

prove-alerts: .venv/dev.stamp system-packages
	TAXIMETER_RULE_RUNS=30 $(BIN)/python -m pytest -q tests/alerts -k fire_and_stay_silent

prove-pages: .venv/dev.stamp system-packages
	@$(BIN)/python -m tests.alerts.prove_pages

prove-stack: .venv/dev.stamp system-packages
	@$(BIN)/python -m tests.deploy.prove_stack

# --- what the targets need ---

# Debian's python3 comes without `venv`; pip can fetch virtualenv into a folder of its own instead.
.venv/pip.stamp:
	@echo "==> creating .venv"
	@$(PYTHON) -m venv .venv 2>/dev/null || { rm -rf .venv && \
	  $(PYTHON) -m pip install --quiet --target .venv-bootstrap virtualenv && \
	  PYTHONPATH=.venv-bootstrap $(PYTHON) -m virtualenv --quiet .venv; }
	@rm -rf .venv-bootstrap
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25'
	@touch $@

.venv/demo.stamp: .venv/pip.stamp pyproject.toml
	@echo "==> installing Taximeter with the demo's parts"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -e '.[demo]' | grep -E '^(Collecting|Successfully|ERROR|Using|Downloading)' | cut -c1-100
	@touch $@

.venv/dev.stamp: .venv/pip.stamp pyproject.toml
	@echo "==> installing Taximeter with everything its tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ .venv/demo.stamp

# Only where that is possible without asking: as root on Debian. Elsewhere the tests that need
# one of these skip, and say so.
system-packages:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  missing=""; \
	  for package in prometheus prometheus-alertmanager prometheus-postgres-exporter prometheus-node-exporter chromium redis-server; do \
	    command -v $$package >/dev/null || missing="$$missing $$package"; done; \
	  if [ -n "$$missing" ]; then echo "==> apt-get install$$missing"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	    apt-get install -y -qq --no-install-recommends $$missing >/dev/null || \
	    echo "could not install$$missing: the tests that need them will be skipped"; fi; fi
