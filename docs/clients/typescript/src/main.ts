// node build/main.js generate ADDRESS SEED FILE.png
// node build/main.js interpolate ADDRESS FRAMES FOLDER

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client } from "./client.js";
import { StylewireError } from "./errors.js";

const [command, address, number, target] = process.argv.slice(2);
const client = new Client(address);
try {
  if (command === "generate") {
    const reply = await client.generate({ latents: [{ seed: Number(number), truncation: { psi: 0.7 } }] });
    writeFileSync(target, reply.images[0].content!);
    console.log(`${target}: ${reply.images[0].widthPx} px of model ${reply.modelDigest}`);
  } else {
    const keyframes = [{ seed: 1 }, { seed: 2 }, { seed: 3 }];
    for await (const frame of client.interpolate({ keyframes, frameCount: Number(number), looped: true })) {
      writeFileSync(join(target, `frame${String(frame.frameIndex).padStart(4, "0")}.png`), frame.image!.content!);
    }
  }
} catch (error) {
  if (!(error instanceof StylewireError)) throw error;
  console.error(`${error.code} ${error.reason}: ${error.message}`);
  error.violations.forEach(({ field, description }) => console.error(`  ${field}: ${description}`));
  process.exitCode = 1;
} finally {
  client.close();
}
