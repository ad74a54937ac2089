#!/bin/bash
# Install peers, each in its own environment build/peers/NAME: bench/serving/peers/setup.sh [NAME...], all by default.
set -euo pipefail
cd "$(dirname "$0")"
root=$(cd ../../.. && pwd)
if [ $# -eq 0 ]; then
  set -- triton mosec litserve mlserver kserve bentoml rayserve
fi
for name in "$@"; do
  test "$name" != triton || "$root/.ci/fetch-triton" >/dev/null # the server; its environment is the model's
  folder=$root/build/peers/$name
  if cmp -s "$name/requirements.txt" "$folder/installed.txt"; then
    continue
  fi
  test -x "$folder/bin/python" || python3.11 -m venv "$folder"
  "$folder/bin/python" -m pip install --quiet --requirement "$name/requirements.txt"
  cp "$name/requirements.txt" "$folder/installed.txt" # last: only a finished installation is skipped next time
done
