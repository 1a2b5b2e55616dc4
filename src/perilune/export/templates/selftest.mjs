// Compare the Q-values and actions of policy.mjs with those of Perilune: node selftest.mjs

import { readFileSync } from "node:fs";
import { act, firstAction, observations, qValues } from "./policy.mjs";

const golden = JSON.parse(readFileSync(new URL("golden.json", import.meta.url), "utf8"));
let largest = 0;
let wrong = 0;
golden.obs.forEach((obs, row) => {
  const expected = golden.q_values[row];
  const q = qValues(obs);
  const scale = Math.max(1, ...expected.map(Math.abs));
  const error = Math.max(...expected.map((value, action) => Math.abs(q[action] - value) / scale));
  const sameAction = act(obs) === golden.action[row] || !golden.certain[row];
  if (!(error <= golden.tolerance) || !sameAction) wrong++; // also counts NaN
  largest = Math.max(largest, error);
});

// An observation that is not valid: NaN, infinity, or a category that does not exist.
let accepted = 0;
observations.forEach(({ low, high, categories }, index) => {
  for (const value of [NaN, Infinity, -Infinity, ...(categories ? [low - 1, low + 0.5, high + 1] : [])]) {
    const obs = [...golden.obs[0]];
    obs[index] = value;
    if (!qValues(obs).every(Number.isNaN) || act(obs) !== firstAction) accepted++;
  }
});

const detail = `Largest relative error: ${largest.toExponential(1)}.`;
if (wrong) console.log(`FAILED: ${wrong} of ${golden.obs.length} observations differ. ${detail}`);
else if (accepted) console.log("FAILED: Invalid observations do not give NaN.");
else console.log(`OK: ${golden.obs.length} observations agree. ${detail}`);
if (wrong || accepted) process.exitCode = 1;
