# Sourced by the other scripts: ready EXTRAS makes "$here/.venv" hold this checkout with its dependencies.
# The stamp names what was installed, so that the second run costs one comparison.
ready() {
  extras=$1
  stamp="$here/.venv/.opagent-installed$extras"
  if [ -f "$stamp" ] && [ "$stamp" -nt "$here/pyproject.toml" ] && [ -x "$here/.venv/bin/opagent" ]; then
    return 0
  fi
  python=
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      python=$candidate
      break
    fi
  done
  if [ -z "$python" ]; then
    echo "error: no Python 3.11 or newer found" >&2
    echo "  set PYTHON to one, for example: PYTHON=/usr/local/bin/python3.12 $0" >&2
    exit 1
  fi
  echo "installing OpAgent into $here/.venv (once) ..." >&2
  [ -x "$here/.venv/bin/python" ] || "$python" -m venv "$here/.venv"
  if [ -n "$extras" ]; then what="$here[$extras]"; else what="$here"; fi
  "$here/.venv/bin/python" -m pip install --quiet --disable-pip-version-check -e "$what" >&2
  # what was installed with extras is whole without them too: a second install would take the package away from running tests
  touch "$here/.venv/.opagent-installed" "$stamp"
}
