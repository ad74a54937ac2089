#!/usr/bin/env bash
# Measure everything on this machine's GPU in less than ten minutes. Writes gpu.json and gpu.txt to $OUT or build/bench/gpu.
# PYTHON names an interpreter with PyTorch for CUDA. What `carry.sh` has put into .whl is installed beside it.
# TESTS=1 runs tests/gpu first, which leaves less time for the rest.
set -uo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
out=${OUT:-build/bench/gpu}
site=${TMPDIR:-/tmp}/stylewire-site
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
mkdir -p "$out"
SECONDS=0

if compgen -G '.whl/*.whl' >/dev/null; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" .whl/*.whl || exit
fi
if compgen -G '.whl-parts-*/part' >/dev/null; then # onnxruntime-gpu, in parts of what one call may carry
    wheel=${TMPDIR:-/tmp}/$(cat .whl-parts-0/name)
    cat .whl-parts-*/part >"$wheel"
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$wheel" ||
        echo "onnxruntime-gpu is incomplete, so it is left out: carry every part"
    rm -f "$wheel"
fi
export PYTHONPATH=bench:service:export:$site${PYTHONPATH:+:$PYTHONPATH}
"$python" -c 'import serving.models, stylewire.server.engine.backends' || {
    echo "what the module above belongs to is missing: bench/gpu/carry.sh fetches it, or pip install '.[server,export]'"
    exit 1
}
if [ "${TESTS:-}" ]; then
    "$python" -m pytest -p no:cacheprovider -W default -m gpu tests/gpu -q -rs 2>&1 | tee "$out/tests.txt"
fi
left=$((570 - SECONDS))
timeout "$left" "$python" -m models.gpu --out "$out" --seconds $((left - 25)) "$@" 2>&1 | tee "$out/log.txt"
