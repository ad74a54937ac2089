#!/usr/bin/env bash
# Builds the images without Docker and without an image registry, for tests: deploy/build-offline.sh cpu [gpu]
#
# Debian's python3.11 (debootstrap) takes the place of BASE, buildah runs the Dockerfile in a chroot. Leaves for each target
# build/image/TARGET/rootfs and config.json (what a container runtime is told), which tests/deploy/test_image.py starts.
# Needs root, and Debian's buildah and debootstrap. STORAGE_DRIVER=vfs where overlay cannot be mounted; takes more disk.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$PWD/build/image
store=(--root "$work/storage" --runroot "$work/run" --storage-driver "${STORAGE_DRIVER:-overlay}")
base=localhost/stylewire-base
export BUILDAH_ISOLATION=chroot

log() { echo "build-offline: $*" >&2; }

for tool in buildah debootstrap; do
  command -v "$tool" >/dev/null || { log "$tool is missing; it is a package of Debian"; exit 1; }
done
[ "$(id -u)" = 0 ] || { log "needs root, for debootstrap and chroot"; exit 1; }

make_base() {
  log "base: Debian with python3.11"
  rm -rf "$work/base"
  debootstrap --variant=minbase --include=python3.11,python3.11-venv,python3-distutils bookworm "$work/base" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} >"$work/base.log"
  rm -rf "$work"/base/var/cache/apt/*.bin "$work"/base/var/cache/apt/archives/*.deb "$work"/base/var/lib/apt/lists/* \
    "$work/base/etc/resolv.conf" # this machine's
  local container
  container=$(buildah "${store[@]}" from scratch)
  buildah "${store[@]}" copy --quiet "$container" "$work/base" / >/dev/null
  buildah "${store[@]}" commit --quiet --rm "$container" "$base" >/dev/null
  rm -rf "$work/base"
}

# Hands this machine's way to the package index to the build, as secrets: an index of its own, an authority of its own.
# Prints the options of buildah. Whether a mirror is used is seen in no file of the image.
pip_options() {
  local key value
  echo "[global]" >"$work/pip.conf"
  for key in index-url extra-index-url proxy timeout cert; do
    value=$(python3 -m pip config list | sed -nE "s/^(global|install|:env:)\.$key='(.*)'$/\2/p" | tail -n 1)
    [ -n "$value" ] || continue
    if [ "$key" = cert ]; then
      echo "--secret id=ca,src=$value"
      value=/run/secrets/ca
    fi
    case $value in file:*) continue ;; esac # a folder of this machine, which the build does not see
    echo "$key = $value" >>"$work/pip.conf"
  done
  echo "--secret id=pip,src=$work/pip.conf"
}

build() {
  local target=$1 image=localhost/stylewire:$1 container folder
  log "$target: build"
  # shellcheck disable=SC2046 # several words
  buildah "${store[@]}" bud --format docker --layers --pull-never --quiet \
    --file deploy/Dockerfile --target "$target" --tag "$image" --build-arg "BASE=$base" \
    --build-arg "REVISION=$(git rev-parse HEAD)" --build-arg "CREATED=$(git log -1 --format=%cI)" $(pip_options) . >"$work/$target.log" 2>&1 ||
    { tail -n 30 "$work/$target.log" >&2; exit 1; }
  log "$target: unpack"
  rm -rf "${work:?}/$target"
  mkdir -p "$work/$target"
  container=$(buildah "${store[@]}" from --pull-never "$image")
  folder=$(buildah "${store[@]}" mount "$container")
  cp --archive "$folder" "$work/$target/rootfs"
  buildah "${store[@]}" inspect --type image "$image" |
    python3 -c 'import json, sys; json.dump(json.load(sys.stdin)["Docker"]["config"], sys.stdout, indent=2)' >"$work/$target/config.json"
  buildah "${store[@]}" umount "$container" >/dev/null
  buildah "${store[@]}" rm "$container" >/dev/null
  log "$target: $(du --summarize --block-size=1M "$work/$target/rootfs" | cut -f1) MB in build/image/$target/rootfs"
}

mkdir -p "$work"
buildah "${store[@]}" inspect --type image "$base" >/dev/null 2>&1 || make_base
for target in "${@:-cpu}"; do
  build "$target"
done
