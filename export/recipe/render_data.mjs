// Renders DiceBear avatars to one raw file of uint8 RGB images:
//   node render_data.mjs STYLE COUNT SIZE_PX SEED OUT.rgb
// Every image is decided by SEED and its index. Colors come from continuous ranges and the pose varies, so that
// a generator has coarse (pose), middle (features) and fine (color) factors to separate.
import { closeSync, openSync, writeSync } from 'node:fs';
import { createAvatar } from '@dicebear/core';
import * as pixelArt from '@dicebear/pixel-art';
import * as toonHead from '@dicebear/toon-head';
import { Resvg } from '@resvg/resvg-js';

const STYLES = { toonHead, pixelArt };

/** A small seeded uniform generator on [0, 1) ("mulberry32"). */
function uniform(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Degrees, percent, percent -> rrggbb. */
function hsl(hue, saturation, lightness) {
  const [s, l] = [saturation / 100, lightness / 100];
  const channel = (n) => {
    const k = (n + hue / 30) % 12;
    const value = l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return Math.round(255 * value).toString(16).padStart(2, '0');
  };
  return channel(0) + channel(8) + channel(4);
}

/** Everything random about one avatar. The order of the draws is part of the data: keep it. */
function drawOptions(style, random) {
  const range = (low, high) => low + (high - low) * random();
  const darkness = range(0, 1);
  const pose = {
    rotate: Math.round(range(-9, 9) + 360) % 360,
    translateX: Math.round(range(-4, 4)),
    translateY: Math.round(range(-3, 3)),
    flip: random() < 0.5,
  };
  const colors = {
    backgroundColor: [hsl(range(0, 360), range(25, 75), range(45, 88))],
    skinColor: [hsl(range(14, 32), range(30, 62), 82 - 52 * darkness)],
    hairColor: [
      random() < 0.75
        ? hsl(range(12, 46), range(20, 70), range(10, 68))
        : hsl(range(0, 360), range(40, 75), range(30, 62)),
    ],
  };
  if (style === 'toonHead') {
    return {
      ...pose,
      ...colors,
      scale: Math.round(range(112, 132)),
      clothesColor: [hsl(range(0, 360), range(15, 80), range(22, 78))],
      beardProbability: 25,
      rearHairProbability: 55,
    };
  }
  return {
    ...pose,
    rotate: 0, // pixels stay on their grid
    ...colors,
    scale: Math.round(range(96, 108)),
    clothingColor: [hsl(range(0, 360), range(30, 80), range(30, 70))],
    hatProbability: 0,
    beardProbability: 15,
    glassesProbability: 10,
    accessoriesProbability: 0,
  };
}

/** RGBA of twice the size -> RGB by a 2x2 box filter. */
function halve(rgba, side) {
  const rgb = Buffer.alloc(side * side * 3);
  for (let y = 0; y < side; y++) {
    for (let x = 0; x < side; x++) {
      for (let c = 0; c < 3; c++) {
        const at = (dy, dx) => rgba[((2 * y + dy) * 2 * side + 2 * x + dx) * 4 + c];
        rgb[(y * side + x) * 3 + c] = (at(0, 0) + at(0, 1) + at(1, 0) + at(1, 1) + 2) >> 2;
      }
    }
  }
  return rgb;
}

const [style, count, size, seed, out] = process.argv.slice(2);
const side = Number(size);
const file = openSync(out, 'w');
for (let index = 0; index < Number(count); index++) {
  const random = uniform(Number(seed) * 1000003 + index * 7919);
  random(); // the first two draws of neighboring seeds are alike
  random();
  const options = { seed: `${seed}-${index}`, size: side * 2, ...drawOptions(style, random) };
  const svg = createAvatar(STYLES[style], options).toString();
  const picture = new Resvg(svg, { fitTo: { mode: 'width', value: side * 2 }, background: '#fff' }).render();
  writeSync(file, halve(picture.pixels, side));
  if (index % 2000 === 0) console.log(`${out}: ${index} of ${count}`);
}
closeSync(file);
