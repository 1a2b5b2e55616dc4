// Line colors and styles. The colors, from Okabe and Ito, are distinguishable for color-blind users; after six
// runs they repeat with another line style. style.css defines them, lighter for dark mode. A place is the index of a
// color and line style.

import { el, svg } from "./dom.js";

const COLORS = 6;
const DASHES = [[], [7, 3], [2, 3]];

const places = new Map(); // key -> place; a key keeps its place while a run with that key is selected
let keys = new Map(); // id -> key of the selected runs

/** Give each newly selected run the first free place. Runs with the same ``key(id)`` share a place. */
export function assign(ids, key) {
  keys = new Map(ids.map((id) => [id, key(id)]));
  const wanted = new Set(keys.values());
  for (const old of places.keys()) if (!wanted.has(old)) places.delete(old);
  const taken = new Set(places.values());
  let next = 0;
  for (const one of wanted) {
    if (places.has(one)) continue;
    while (taken.has(next)) next += 1;
    places.set(one, next);
    taken.add(next);
  }
}

/** Return the place of a run, or null if the run is not selected. */
export function slot(id) {
  return places.get(keys.get(id)) ?? null;
}

let sheet = null;
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (sheet = null));

/** Return a color of style.css by name, for use on a canvas. */
export function ink(name) {
  sheet ??= getComputedStyle(document.documentElement);
  return sheet.getPropertyValue(`--${name}`).trim();
}

/** Return the color and the dash pattern (in pixels) of a place. */
export function look(place) {
  return { color: ink(`line-${place % COLORS}`), dash: DASHES[Math.floor(place / COLORS) % DASHES.length] };
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
  const dash = DASHES[Math.floor(place / COLORS) % DASHES.length].join(" ");
  const line = svg("line", { x1: "1", y1: "4", x2: "19", y2: "4", class: `c${place % COLORS}` });
  if (dash) line.setAttribute("stroke-dasharray", dash);
  holder.replaceChildren(svg("svg", { viewBox: "0 0 20 8", width: "20", height: "8" }, line));
}
