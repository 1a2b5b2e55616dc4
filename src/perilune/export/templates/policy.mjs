// @title
// Perilune @version wrote this file: perilune export --to js. It has no dependencies and works in Node and browsers.
//
//   import { act, qValues } from "./policy.mjs";
//   const action = act(obs);

/** The environment in which the policy was trained. */
export const environment = @environment;

/** The numbers of an observation, in order. Those with categories are whole numbers from low to high. */
export const observations = [
@observations
];

/** The names of the actions. The first action is firstAction, and the others follow. */
export const actions = @actions;
export const firstAction = @first_action;

// The layers. Each has weights W[inputs][outputs] and a bias b[outputs], and gain[outputs] and shift[outputs] if it
// normalizes: y = activation(normalize(x W + b)).
const layers = [
@layers
];

// For C51: the returns of the atoms. The outputs of an action are the logits of their probabilities.
const support = @support;

// All weights, layer by layer, as base64 of float32 in little-endian byte order.
const weights = decode(
  "@weights",
);

/**
 * Return the Q-value of each action. All are NaN if the observation contains a NaN, an infinity or an unknown category.
 */
export function qValues(obs) {
  if (obs.length !== observations.length) {
    throw new RangeError(`an observation has ${observations.length} numbers, but ${obs.length} were given.`);
  }
  let x = encode(obs);
  if (x === null) return new Float32Array(actions.length).fill(NaN);
  let start = 0;
  for (const layer of layers) {
    x = forward(layer, x, start);
    start += (layer.inputs + (layer.normalize ? 3 : 1)) * layer.outputs;
  }
  return support === null ? x : expectedReturns(x);
}

/** Return the action with the largest Q-value. It is firstAction if the Q-values are NaN. */
export function act(obs) {
  const q = qValues(obs);
  let best = 0;
  for (let action = 1; action < q.length; action++) if (q[action] > q[best]) best = action;
  return firstAction + best;
}

/** Return the inputs of the first layer, with categories one-hot. Return null if the observation is invalid. */
function encode(obs) {
  const x = new Float32Array(layers[0].inputs);
  let at = 0;
  for (let i = 0; i < observations.length; i++) {
    const { low, categories } = observations[i];
    const value = Math.fround(obs[i]);
    if (!Number.isFinite(value)) return null;
    if (categories === 0) {
      x[at++] = value;
    } else {
      const index = value - low;
      if (!Number.isInteger(index) || index < 0 || index >= categories) return null;
      x[at + index] = 1;
      at += categories;
    }
  }
  return x;
}

/** Return the outputs of a layer. Sums are in double precision, and the outputs are rounded to float32. */
function forward({ inputs, outputs, normalize, activation }, x, start) {
  const y = new Float64Array(outputs);
  const bias = start + inputs * outputs;
  for (let j = 0; j < outputs; j++) y[j] = weights[bias + j];
  for (let i = 0; i < inputs; i++) {
    const value = x[i];
    if (value === 0) continue; // ReLU and one-hot inputs are often 0
    const row = start + i * outputs;
    for (let j = 0; j < outputs; j++) y[j] += value * weights[row + j];
  }
  if (normalize) {
    let mean = 0;
    let variance = 0;
    for (let j = 0; j < outputs; j++) mean += y[j] / outputs;
    for (let j = 0; j < outputs; j++) variance += (y[j] - mean) ** 2 / outputs;
    const deviation = Math.sqrt(variance + 1e-5);
    const gain = bias + outputs;
    const shift = gain + outputs;
    for (let j = 0; j < outputs; j++) y[j] = ((y[j] - mean) / deviation) * weights[gain + j] + weights[shift + j];
  }
  if (activation === "relu") for (let j = 0; j < outputs; j++) y[j] = Math.max(y[j], 0);
  if (activation === "tanh") for (let j = 0; j < outputs; j++) y[j] = Math.tanh(y[j]);
  return new Float32Array(y);
}

/** Return the mean of the return distribution of each action. */
function expectedReturns(logits) {
  const q = new Float32Array(actions.length);
  for (let action = 0; action < q.length; action++) {
    const row = logits.subarray(action * support.length, (action + 1) * support.length);
    const largest = row.reduce((a, b) => Math.max(a, b));
    let total = 0;
    let sum = 0;
    for (let atom = 0; atom < row.length; atom++) {
      const weight = Math.exp(row[atom] - largest);
      total += weight;
      sum += weight * support[atom];
    }
    q[action] = sum / total;
  }
  return q;
}

/** Return the float32 numbers of base64 text. */
function decode(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(4 * i, true));
}
