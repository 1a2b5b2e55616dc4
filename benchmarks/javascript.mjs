// Play episodes of templates/demo/lunar_lander.mjs for benchmarks/javascript.py: node javascript.mjs < episodes.json

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { planck, game: gameFile, policy: policyFile, episodes } = JSON.parse(readFileSync(0, "utf8"));
globalThis.planck = createRequire(import.meta.url)(planck);
const game = await import(gameFile);
const policy = await import(policyFile);

/** Play one episode with recorded actions, or with the policy if there are none. */
function play({ random, actions }) {
  let draws = 0;
  game.reset(() => random[draws++]);
  const states = [Array.from(game.observe())];
  let total = 0;
  for (let step = 0; step < (actions?.length ?? game.maxSteps); step++) {
    const { reward, terminated } = game.step(actions?.[step] ?? policy.act(game.observe()));
    states.push(Array.from(game.observe()));
    total += reward;
    if (terminated) return { total, states, outcome: game.outcome(true) };
  }
  return { total, states, outcome: game.outcome(false) };
}

console.log(JSON.stringify(episodes.map(play)));
