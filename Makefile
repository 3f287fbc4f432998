PYTHON ?= python3
# The lowest versions have wheels for the oldest supported Python only.
LOWEST_PYTHON ?= python3.11

RUFF = .venv/bin/ruff
# One process for each core, and one BLAS thread for each process: more threads would wait for each
# other and take twice the processor time. Tests of threads set their number themselves. scikit-learn
# skips its check of array API input unless SciPy was told of it before its import.
PYTEST = -m pytest --numprocesses auto --quiet --junitxml=.pytest-report.xml
TEST_ENVIRONMENT = SCIPY_ARRAY_API=1 OMP_NUM_THREADS=1

# Installs into an environment. uv takes half the time of pip. torch comes by pip, which finds a build for
# the CPU where it was told of one.
uv_install = $(1)/bin/python -m pip install --quiet --prefer-binary uv torch==2.13.0 && \
	$(1)/bin/uv pip install --quiet --python $(1)/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test test-lowest lint docs wheel clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv-demo/.stamp ## run the demonstration
	@.venv-demo/bin/python docs/examples/demo.py

test: lint ## check style, format and types, then run the tests
	$(TEST_ENVIRONMENT) .venv/bin/python $(PYTEST)

# Many tests have dozens of cases of the same few calls; versions differ in which calls they know.
test-lowest: .venv-lowest/.stamp ## run each test, with at most three of its cases, on the lowest versions
	$(TEST_ENVIRONMENT) .venv-lowest/bin/python $(PYTEST) --cases 3

lint: .venv/.stamp ## check style, format and types; change nothing
	$(RUFF) check --quiet
	$(RUFF) format --check --quiet
	.venv/bin/python -m mypy --no-error-summary
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 .venv/bin/python -m pyright --pythonpath .venv/bin/python

# SPHINXOPTS='--tag online' makes links to the pages of other projects.
docs: .venv-docs/.stamp ## build the documentation in docs/_build/html; warnings are errors
	OMP_NUM_THREADS=1 .venv-docs/bin/python -m sphinx --quiet --fail-on-warning --keep-going $(SPHINXOPTS) docs docs/_build/html

# The demonstration lies in another folder, so it imports the wheel and not the checkout.
wheel: ## build archive and wheel in dist/, and run the demonstration from the wheel
	rm -rf dist .venv-wheel
	$(PYTHON) -m venv .venv-wheel/tools
	.venv-wheel/tools/bin/python -m pip install --quiet --prefer-binary 'build[uv]' twine
	.venv-wheel/tools/bin/python -m build --installer uv >.venv-wheel/build.log || { cat .venv-wheel/build.log; exit 1; }
	.venv-wheel/tools/bin/python -m twine check --strict dist/*
	$(PYTHON) -m zipfile --list dist/*.whl | grep --quiet 'sklearn_calm/py.typed'
	$(PYTHON) -m venv .venv-wheel/fresh
	.venv-wheel/fresh/bin/python -m pip install --quiet --prefer-binary "$$(ls dist/*.whl)[plot]"
	mkdir .venv-wheel/sdist && tar -xf dist/*.tar.gz -C .venv-wheel/sdist --strip-components 1
	cd .venv-wheel/sdist && ../fresh/bin/python docs/examples/demo.py

clean: ## remove the environments, caches and built files
	rm -rf .venv .venv-demo .venv-docs .venv-lowest .venv-wheel .demo .mypy_cache .pytest_cache
	rm -rf .ruff_cache .hypothesis .pytest-report.xml
	rm -rf build dist docs/_build docs/api docs/auto_examples
	find sklearn_calm tests docs -name __pycache__ -prune -exec rm -rf {} +

.venv/.stamp: pyproject.toml
	@echo "Creating .venv ..."
	@$(PYTHON) -m venv --clear .venv
	@$(call uv_install,.venv) --editable '.[dev]'
	@touch $@

# This is the first command that a newcomer runs, so it installs the library and Matplotlib alone. Python
# compiles the modules that it imports; to compile all modules at installation takes longer.
.venv-demo/.stamp: pyproject.toml
	@echo "Creating .venv-demo ..."
	@$(PYTHON) -m venv --clear .venv-demo
	@.venv-demo/bin/python -m pip install --quiet --prefer-binary --no-compile --editable '.[plot]'
	@touch $@

.venv-docs/.stamp: pyproject.toml
	@echo "Creating .venv-docs ..."
	@$(PYTHON) -m venv --clear .venv-docs
	@$(call uv_install,.venv-docs) --editable '.[docs]'
	@touch $@

# Matplotlib 3.9 calls names that pyparsing 3.3 deprecates, and the tests make warnings errors.
.venv-lowest/.stamp: pyproject.toml
	@echo "Creating .venv-lowest ..."
	@$(LOWEST_PYTHON) -m venv --clear .venv-lowest
	@$(call uv_install,.venv-lowest) \
		--resolution lowest-direct --editable '.[test]' 'pyparsing>=3.1,<3.3'
	@touch $@
