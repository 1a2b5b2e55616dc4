// What the reader has chosen. It is kept in the address's fragment, so that reload, back and links keep it.

import { settled } from "./dom.js";

const START = {
  runs: null, // ids, in the order in which they were chosen; null: not chosen yet
  view: "curves",
  x: "env_steps",
  smooth: 20,
  bands: false,
  filter: "",
  differs: false,
  flight: null, // whose films are shown
  film: null,
  env_steps: null, // [from, to] of the charts over environment steps; null: all
  episode: null,
};
const CHOICES = { view: ["curves", "flights", "settings"], x: ["env_steps", "episode"] };

export const state = { ...START };
const listeners = [];

/** The chosen runs' ids. */
export function chosen() {
  return state.runs ?? [];
}

/** Call ``listener(changed)`` with the names of what changed, each time. */
export function onChange(listener) {
  listeners.push(listener);
}

/** Change some of it. */
export function change(values) {
  const changed = Object.keys(values).filter((name) => String(state[name]) !== String(values[name]));
  if (changed.length === 0) return;
  Object.assign(state, values);
  save();
  for (const listener of listeners) listener(changed);
}

const save = settled(() => history.replaceState(null, "", `#${written()}`), 120);

function written() {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (String(value) === String(START[name]) && name !== "runs") continue;
    if (name === "runs") for (const id of value ?? []) words.append("run", id);
    else
      words.set(name, Array.isArray(value) ? value.map((end) => Number(end.toPrecision(8))).join("~") : String(value));
  }
  if (state.runs !== null && state.runs.length === 0) words.set("none", "1");
  return words.toString();
}

function read(fragment) {
  const words = new URLSearchParams(fragment.replace(/^#/, ""));
  const values = { ...START };
  if (words.has("run") || words.has("none")) values.runs = [...new Set(words.getAll("run"))];
  for (const [name, allowed] of Object.entries(CHOICES)) {
    if (allowed.includes(words.get(name))) values[name] = words.get(name);
  }
  for (const name of ["env_steps", "episode"]) {
    const [from, to] = (words.get(name) ?? "").split("~").map(Number);
    if (from < to) values[name] = [from, to];
  }
  for (const name of ["bands", "differs"]) values[name] = words.get(name) === "true";
  for (const name of ["filter", "flight", "film"]) values[name] = words.get(name) ?? START[name];
  const smooth = Number(words.get("smooth"));
  if (Number.isInteger(smooth) && smooth >= 1 && smooth <= 1000) values.smooth = smooth;
  return values;
}

Object.assign(state, read(location.hash));
addEventListener("hashchange", () => change(read(location.hash)));
