// The user's selection. The fragment of the URL stores it, so that reload, history, bookmarks and links keep it.

import { debounced } from "./dom.js";

const DEFAULTS = {
  runs: null, // ids in the order of selection; null: nothing selected yet
  view: "curves",
  x: "env_steps",
  smooth: null, // episodes in the moving averages; null: about a twentieth of the episodes
  bands: false,
  filter: "",
  sort: "-started", // column of the table of runs; with "-" in descending order
  folded: false, // whether the table of runs is collapsed
  differs: false,
  source: null, // id of the run whose videos are shown
  video: null, // name of the video
  env_steps: null, // [from, to] of charts over environment steps; null: the whole range
  episode: null,
  seconds: null,
  y: [], // [chart, from, to] of charts with a zoomed y axis
  scale: [], // [chart, "log" or "linear"] of charts with another y axis than by default
  outcome: null, // the outcome that is compared between runs
};
const X_AXES = ["env_steps", "episode", "seconds"];
const CHOICES = { view: ["curves", "videos", "settings"], x: X_AXES };

/** The values that show the whole range in every chart. */
export const WHOLE = { env_steps: null, episode: null, seconds: null, y: [] };

export const state = { ...DEFAULTS };
const listeners = [];

/** Return the ids of the selected runs. */
export function chosen() {
  return state.runs ?? [];
}

/** After each change, call ``listener(names)`` with the names of the changed values. */
export function onChange(listener) {
  listeners.push(listener);
}

/** Set some of the values, and call the listeners if any value differs. */
export function change(values) {
  const changed = Object.keys(values).filter((name) => String(state[name]) !== String(values[name]));
  if (changed.length === 0) return;
  Object.assign(state, values);
  save();
  for (const listener of listeners) listener(changed);
}

const save = debounced(() => history.replaceState(null, "", `#${toFragment()}`), 120);

function toFragment() {
  const fields = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (String(value) === String(DEFAULTS[name]) && name !== "runs") continue;
    if (name === "runs") for (const id of value ?? []) fields.append("run", id);
    else if (["y", "scale"].includes(name)) for (const chart of value) fields.append(name, joined(chart));
    else fields.set(name, Array.isArray(value) ? joined(value) : String(value));
  }
  if (state.runs !== null && state.runs.length === 0) fields.set("none", "1");
  return fields.toString();
}

const joined = (parts) =>
  parts.map((part) => (typeof part === "number" ? Number(part.toPrecision(8)) : part)).join("~");

function fromFragment(fragment) {
  const fields = new URLSearchParams(fragment.replace(/^#/, ""));
  const values = { ...DEFAULTS };
  if (fields.has("run") || fields.has("none")) values.runs = [...new Set(fields.getAll("run"))];
  for (const [name, allowed] of Object.entries(CHOICES)) {
    if (allowed.includes(fields.get(name))) values[name] = fields.get(name);
  }
  for (const name of X_AXES) {
    const [from, to] = (fields.get(name) ?? "").split("~").map(Number);
    if (from < to) values[name] = [from, to];
  }
  const charts = (name) => fields.getAll(name).map((field) => field.split("~"));
  values.y = charts("y")
    .map(([chart, from, to]) => [chart, Number(from), Number(to)])
    .filter(([, from, to]) => from < to && Number.isFinite(to - from));
  values.scale = charts("scale").filter(([, scale]) => scale === "log" || scale === "linear");
  for (const name of ["bands", "differs", "folded"]) values[name] = fields.get(name) === "true";
  for (const name of ["filter", "sort", "source", "video", "outcome"]) values[name] = fields.get(name) ?? DEFAULTS[name];
  const smooth = Number(fields.get("smooth"));
  if (Number.isInteger(smooth) && smooth >= 1 && smooth <= 1000) values.smooth = smooth;
  return values;
}

Object.assign(state, fromFragment(location.hash));
addEventListener("hashchange", () => change(fromFragment(location.hash)));
