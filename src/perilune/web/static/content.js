// Pure functions that compute the content of a chart, and its description, from the server's response for a series.

import { before } from "./drawing.js";
import { look, slot } from "./palette.js";
import { count, number, some } from "./text.js";

const MAX_RAW = 8; // runs; the unsmoothed lines of more runs would hide each other
const MAX_LISTED = 8; // lines; the others are summarized
const THRESHOLD_REACH = 1.5; // times the range of the values; the chart does not show a threshold that is further away
const SCORES = new Set(["episodes.reward", "evaluations.mean_return", "evaluations.min_return"]);
const LOGARITHMIC = new Set(["loss", "gradient_norm"]); // logarithmic if they span a decade
const SHARES = new Set(["epsilon"]);

/**
 * Return the content of a chart between x[0] and x[1]. ``strong`` are the main lines, each with its values, ``label`` and
 * ``place``.
 */
export function chartContent(answered, x, model) {
  const answer = stillChosen(answered);
  const strong = [...bandLines(answer, model), ...runLines(answer, model)];
  const scored = SCORES.has(answer.name);
  const marks = scored ? thresholds(answer, model.byId) : [];
  const evaluated = answer.name.startsWith("evaluations.");
  const faint = faintLines(answer);
  const lines = [
    ...faint,
    ...strong.map((line) => ({ ...line, ...look(line.place), width: 2, dots: evaluated && line.id ? 3 : undefined })),
  ];
  const areas = answer.bands.map((band) => ({ ...band, color: look(slot(band.ids[0])).color }));
  const log = LOGARITHMIC.has(answer.name.split(".")[1]) && spansDecade(strong);
  const rings = answer.name === "evaluations.mean_return" ? best(strong, model.byId, answer.x) : [];
  return { lines, areas, marks, rings, strong, x, log, y: yRange(answer, { strong, faint, areas, marks, log }, x) };
}

/** Return the part of a response for runs that are still selected and not replaced by a newer run with the same seed. */
function stillChosen(answer) {
  const chosen = (id) => slot(id) !== null;
  const bands = answer.bands.filter((band) => band.ids.every(chosen));
  const shown = (id) => chosen(id) && !bands.some((band) => Object.hasOwn(band.replaced, id));
  return { ...answer, series: answer.series.filter((one) => shown(one.id)), bands };
}

/** Return messages about runs that the bands of a response ignore. */
export function ignoredRuns(answer, model) {
  if (answer.bands.length === 0) return ["There is no band, because no two selected runs differ only in the seed."];
  const ids = answer.bands.flatMap((band) => Object.keys(band.replaced));
  const names = some(ids.map(model.label));
  return ids.length === 0 ? [] : [`A band uses only the newest run of each seed. Ignored: ${names}.`];
}

function bandLines(answer, model) {
  return answer.bands.map((band) => ({
    label: `${model.groupLabel(band.group)}, ${count(band.ids.length, "seed")}`,
    place: slot(band.ids[0]),
    x: band.x,
    y: band.mean,
    count: band.x.length,
  }));
}

const inBands = (answer) => new Set(answer.bands.flatMap((band) => band.ids));

function runLines(answer, model) {
  const banded = inBands(answer);
  return answer.series
    .filter((one) => one.x.length > 0 && !banded.has(one.id))
    .map((one) => ({
      id: one.id,
      label: model.label(one.id),
      place: slot(one.id),
      x: one.x,
      y: one.mean,
      count: one.count,
    }));
}

/** Return the faint lines: unsmoothed values or, for runs in a band, moving averages. */
function faintLines(answer) {
  const banded = inBands(answer);
  const raw =
    answer.series.length <= MAX_RAW ? answer.series.filter((one) => !banded.has(one.id)) : [];
  return [
    ...raw.map((one) => ({
      x: one.x,
      y: one.y,
      color: look(slot(one.id)).color,
      alpha: raw.length > 1 ? 0.22 : 0.32,
      width: 0.9,
    })),
    ...answer.series
      .filter((one) => banded.has(one.id))
      .map((one) => ({
        x: one.x,
        y: one.mean,
        color: look(slot(banding(answer, one.id).ids[0])).color,
        alpha: 0.35,
        width: 0.9,
      })),
  ];
}

const banding = (answer, id) => answer.bands.find((band) => band.ids.includes(id));

/** Return the reward thresholds of the environments in a response. Name the environments if thresholds differ. */
function thresholds(answer, byId) {
  const runs = answer.series.map((one) => byId.get(one.id)).filter((run) => typeof run?.reward_threshold === "number");
  const marks = new Map(); // threshold -> environments
  for (const { reward_threshold: mark, environment } of runs)
    marks.set(mark, (marks.get(mark) ?? new Set()).add(environment));
  const prefix = (environments) => (marks.size > 1 ? `${some([...environments])} ` : "");
  return [...marks].map(([y, environments]) => ({ y, label: `${prefix(environments)}solved at ${number(y)}` }));
}

function best(strong, runs, x) {
  return strong
    .map((line) => [line, runs.get(line.id)?.best])
    .filter(([, found]) => found)
    .map(([line, found]) => ({
      x: x === "episode" ? found.episodes : found.env_steps,
      y: found.mean_return,
      color: look(line.place).color,
    }));
}

function spansDecade(strong) {
  let low = Infinity;
  let high = 0;
  for (const { y } of strong) {
    for (const value of y) {
      if (value === null || value <= 0) continue;
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  return high >= 10 * low;
}

function yRange(answer, { strong, faint, areas, marks, log }, x) {
  if (SHARES.has(answer.name.split(".")[1])) return [-0.03, 1.03];
  const values = [];
  const inside = (line, of) => values.push(...visible(line.x, of, x).filter((value) => !log || value > 0));
  for (const line of [...faint, ...strong]) inside(line, line.y);
  for (const area of areas) for (const edge of [area.low, area.high]) inside(area, edge);
  if (values.length === 0) return log ? [1, 10] : [0, 1];
  let [low, high] = extent(values);
  const reach = THRESHOLD_REACH * (high - low);
  [low, high] = extent([
    low,
    high,
    ...marks.map((mark) => mark.y).filter((y) => y <= high + reach && y >= low - reach),
  ]);
  if (log) return [low / 1.3, high * 1.3];
  const room = high > low ? (high - low) * 0.06 : Math.max(Math.abs(high) * 0.1, 1e-9);
  return [low - room, high + room];
}

/** Return the values of a line from x[0] to x[1], including interpolated values at both ends. */
function visible(xs, y, x) {
  const [first, last] = [before(xs, x[0]), before(xs, x[1])];
  const end = (at, after) => {
    if (xs[after] === at) return y[after];
    const [low, high] = [y[after - 1] ?? null, y[after] ?? null];
    if (low === null || high === null) return null;
    return low + ((high - low) * (at - xs[after - 1])) / (xs[after] - xs[after - 1]);
  };
  const ends = [end(x[0], first), end(x[1], last)];
  return [...y.slice(first, last), ...ends].filter((value) => value !== null);
}

/** Return the lowest and the highest value. Skip null. */
export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value === null || value === undefined) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/**
 * Return the values at x (null: the latest): ``listed`` as [{place, label, value}], and ``rest``, a summary of the other
 * lines. If y is not null, list the lines nearest to y.
 */
export function readings(strong, x, y) {
  const all = strong.map((line) => ({ place: line.place, label: line.label, value: valueAt(line, x) }));
  if (y !== null && all.length > MAX_LISTED)
    all.sort((a, b) => Math.abs((a.value ?? Infinity) - y) - Math.abs((b.value ?? Infinity) - y));
  const values = all
    .slice(MAX_LISTED)
    .map((one) => one.value)
    .filter((value) => value !== null);
  const more = all.length - MAX_LISTED;
  const rest =
    more <= 0
      ? ""
      : values.length
        ? `and ${more} more, from ${number(Math.min(...values))} to ${number(Math.max(...values))}`
        : `and ${more} more`;
  return { listed: all.slice(0, MAX_LISTED), rest };
}

function valueAt({ x, y }, at) {
  if (x.length === 0) return null;
  if (at === null) return y.at(-1);
  const after = Math.min(before(x, at), x.length - 1);
  const nearest = after > 0 && at - x[after - 1] < x[after] - at ? after - 1 : after;
  return y[nearest];
}

/** Describe the chart for screen readers. */
export function describe(strong) {
  if (strong.length === 0) return "No data yet.";
  const first = strong.slice(0, MAX_LISTED).map(({ label, y, count: rows }) => {
    const values = y.filter((value) => value !== null);
    if (values.length === 0) return `${label}: no data yet.`;
    const [low, high] = extent(values);
    return `${label}: ${count(rows, "value")}, from ${number(low)} to ${number(high)}, latest ${number(values.at(-1))}.`;
  });
  const more = strong.length - first.length;
  return first.join(" ") + (more > 0 ? ` And ${count(more, "more line")}.` : "");
}
