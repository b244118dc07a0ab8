# Every target makes .venv itself when it is missing or when what it is made from has changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

TESTS ?= tests

.PHONY: install quickstart quickstart-data test test-delayed check bench endurance endurance-whole endurance-scheduled clean help
help:
	@echo "make quickstart   install, start Prefect, from real text to an evaluated model, show what came out"
	@echo "make quickstart-data   the same up to the corpus"
	@echo "make test         all tests but those that need a GPU"
	@echo "make test-delayed   tests with delays at random after system calls: what races? (TESTS=tests/flows; Linux, a C compiler)"
	@echo "make check        ruff, mypy, layers, file lengths, names (what CI runs)"
	@echo "make bench        speed beside the usual libraries, on this machine"
	@echo "make endurance    the chain on S3 with faults, killed at random: the same bytes? (half an hour)"
	@echo "make endurance-whole   from text to evaluated model on S3 with faults, killed in every stage: the same bytes?"
	@echo "make endurance-scheduled   fifty scheduled runs one after the other: what grows?"
	@echo "make clean        end this project's services and remove .venv and .olmo"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Python 3.11 to 3.13 is needed, {sys.executable} is {v[0]}.{v[1]}: make PYTHON=/path/to/python3.11 ...")'
	@echo "Installing what constraints.txt pins (torch, Prefect, ...) into $(VENV): 2.3 GB, about 3 minutes the first time; pip says nothing meanwhile"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

quickstart: $(STAMP)
	$(BIN)/python -m flows.command.quickstart

quickstart-data: $(STAMP)
	$(BIN)/python -m flows.command.quickstart --data

test: $(STAMP)
	$(BIN)/python -m pytest -m "not gpu" -n 2 --dist loadgroup

test-delayed: $(STAMP) $(VENV)/delays.so
	LD_PRELOAD=$(abspath $(VENV)/delays.so) $(BIN)/python -m pytest -m "not gpu" -n 4 --dist loadgroup $(TESTS)

$(VENV)/delays.so: tests/delays.c $(STAMP)
	$(CC) -O2 -Wall -Wextra -shared -fPIC -o $@ $<

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_ratchets.py

bench: $(STAMP)
	$(BIN)/python -m benchmarks.run

endurance: $(STAMP)
	$(BIN)/python -m tests.endurance

endurance-whole: $(STAMP)
	$(BIN)/python -m tests.endurance.whole

endurance-scheduled: $(STAMP)
	$(BIN)/python -m tests.endurance.scheduled

clean:
	-test -x $(BIN)/olmo && $(BIN)/olmo down
	rm -rf $(VENV) .olmo
