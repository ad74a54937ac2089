#!/bin/sh
# Makes the demo models from nothing: images, base model, second style, encoder, model directories.
#   export/recipe/run.sh [MINUTES] [OUT]        (120 minutes on two cores; OUT is what the package ships)
# Needs Node, npm and `pip install -e ".[export]" safetensors`. DEVICE=cuda trains on a GPU, PYTHON names the interpreter.
set -eu
cd "$(dirname "$0")"
minutes=${1:-120}
out=${2:-../../service/stylewire/demo}
device=${DEVICE:-cpu}
python=${PYTHON:-python}

share() { awk "BEGIN { print $minutes * $1 }"; }

npm install --no-audit --no-fund
mkdir -p runs
[ -f runs/base.rgb ] || node render_data.mjs toonHead "${BASE_COUNT:-24000}" 64 1 runs/base.rgb
[ -f runs/target.rgb ] || node render_data.mjs pixelArt "${TARGET_COUNT:-2000}" 64 2 runs/target.rgb
[ -f runs/heldout.rgb ] || node render_data.mjs toonHead 512 64 99 runs/heldout.rgb

"$python" train.py --device "$device" --data runs/base.rgb --out runs/base --noise-after 60 --minutes "$(share 0.65)"
"$python" train.py --device "$device" --data runs/target.rgb --out runs/target --init runs/base/ckpt.pt \
  --freeze-mapping --augment --ema-kimg 3 --minutes "$(share 0.10)"
"$python" train_encoder.py --device "$device" --generator runs/base/ckpt.pt --data runs/base.rgb \
  --test runs/heldout.rgb --out runs/encoder --minutes "$(share 0.25)"
"$python" make_demo_models.py --base runs/base/ckpt.pt --target runs/target/ckpt.pt --encoder runs/encoder/ckpt.pt \
  --heldout runs/heldout.rgb "$out"
