// Line colors and styles. colors.css defines them, because the figures of perilune plot share them. After six runs, the
// colors repeat with another line style. A place is the index of a color and line style.

import { el, svg } from "./dom.js";

const places = new Map(); // id -> place of every run so far
const groups = new Map(); // group -> place of its first run
let selected = new Map(); // id -> place of the selected runs

/**
 * Give each new run the next place, in the order of creation. A run keeps its place even if it is not selected.
 * ``ids`` are the selected runs. Runs of the groups ``merged`` share the place of the first run of their group.
 */
export function assign(runs, ids, merged = new Set()) {
  const fresh = runs.filter((run) => !places.has(run.id));
  fresh.sort((a, b) => a.created - b.created || (a.id < b.id ? -1 : 1));
  for (const { id, group } of fresh) {
    if (!groups.has(group)) groups.set(group, places.size);
    places.set(id, places.size);
  }
  const chosen = runs.filter((run) => ids.includes(run.id));
  selected = new Map(chosen.map(({ id, group }) => [id, merged.has(group) ? groups.get(group) : places.get(id)]));
}

/** Return the place of a run, or null if the run is not selected. */
export function slot(id) {
  return selected.get(id) ?? null;
}

/** Return the place of a run, whether it is selected or not. */
export function placeOf(id) {
  return slot(id) ?? places.get(id);
}

let sheet = null;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (sheet = null));

/** Return a color, or another variable of the style sheets, by name. */
export function ink(name) {
  sheet ??= getComputedStyle(document.documentElement);
  return sheet.getPropertyValue(`--${name}`).trim();
}

const COLORS = Number(ink("colors"));
const PATTERNS = Number(ink("patterns"));
const DASHES = Array.from({ length: PATTERNS }, (_, index) => ink(`dashes-${index}`).split(" ").map(Number).filter(Boolean));
const dashOf = (place) => DASHES[Math.floor(place / COLORS) % PATTERNS];

/** Return the color and the dash pattern (in pixels) of a place. */
export function look(place) {
  return { color: ink(`line-${place % COLORS}`), dash: dashOf(place) };
}

/** Create a short line in the style of a place; an empty element for null. */
export function swatch(place) {
  const holder = el("span", { class: "swatch", "aria-hidden": "true" });
  paint(holder, place);
  return holder;
}

/** Change a swatch to the style of another place. */
export function paint(holder, place) {
  if (holder.place === place) return;
  holder.place = place;
  if (place === null) return holder.replaceChildren();
  const line = svg("line", { x1: "1", y1: "4", x2: "25", y2: "4", class: `c${place % COLORS}` });
  if (dashOf(place).length > 0) line.setAttribute("stroke-dasharray", dashOf(place).join(" "));
  holder.replaceChildren(svg("svg", { viewBox: "0 0 26 8", width: "26", height: "8" }, line));
}
