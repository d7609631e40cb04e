#!/usr/bin/env bash
# What a card brings, in under eight minutes, on a bare machine: Python 3.11 to 3.13 with torch 2.7 or newer, and a card.
#
#     bash benchmarks/card.sh [FOLDER]        # figures go to FOLDER (default: card); card.json has all of them
#
# What of the program's light packages is missing is installed first, where pip reaches an index; the parts that need
# what is still missing (Ray, pytest) are left out and named.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
missing=$("$python" - <<'EOF'
import importlib.util as u
needs = {"numpy": "numpy", "pydantic": "pydantic", "yaml": "pyyaml", "rapidfuzz": "rapidfuzz", "rich": "rich",
         "pyarrow": "pyarrow", "duckdb": "duckdb", "click": "click", "psutil": "psutil", "pytest": "pytest",
         "hypothesis": "hypothesis"}
print(*(package for module, package in needs.items() if u.find_spec(module) is None))
EOF
)
[ -z "$missing" ] || timeout 120 "$python" -m pip install --quiet $missing ||
  echo "not installed: $missing; the parts that need them are left out" >&2
exec "$python" benchmarks/card.py --out "${1:-card}"
