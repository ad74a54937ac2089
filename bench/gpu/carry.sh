#!/usr/bin/env bash
# Fetch what a GPU machine without a network lacks: .whl (11 MB), and with "gpu" also onnxruntime-gpu, in parts of 60 MB.
# PYTHON_VERSION is that of the machine's interpreter.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python}
version=${PYTHON_VERSION:-3.12}
packages=(
    annotated-types googleapis-common-protos grpcio grpcio-health-checking grpcio-reflection grpcio-status isal protobuf
    pydantic pydantic-core simplejpeg typing-inspection
)
platforms=()
for libc in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${libc}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64)

fetch() {
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" --implementation cp \
        --abi "cp${version/./}" --abi abi3 --abi none "${platforms[@]}" --constraint constraints.txt --dest "$@"
}

rm -rf .whl .whl-parts-*
fetch .whl "${packages[@]}"
du -sh .whl
if [ "${1:-}" = gpu ]; then
    folder=$(mktemp -d)
    fetch "$folder" onnxruntime-gpu
    split --bytes=60M --numeric-suffixes --suffix-length=1 "$folder"/*.whl "$folder/part"
    for part in "$folder"/part*; do
        index=${part##*part}
        mkdir -p ".whl-parts-$index"
        mv "$part" ".whl-parts-$index/part"
    done
    basename "$folder"/*.whl >.whl-parts-0/name
    rm -rf "$folder"
    du -sh .whl-parts-*
fi
