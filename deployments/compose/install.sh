#!/bin/sh
# Install this checkout and what it needs into a virtual environment: install.sh FOLDER, in the project's directory.
set -eu
test -x "$1/bin/python" || python -m venv "$1"
"$1/bin/python" -m pip install --disable-pip-version-check -c constraints.txt -e '.[all]'
"$1/bin/olmo" --help >/dev/null
