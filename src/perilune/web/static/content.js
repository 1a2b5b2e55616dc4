// Pure functions that compute the content of a chart, and its description, from the server's response for a series.

import { before } from "./drawing.js";
import { look, slot } from "./palette.js";
import { isStacked, ofOutcome, stack } from "./shares.js";
import { count, number, some } from "./text.js";

const MAX_RAW = 8; // runs; the unsmoothed lines of more runs would hide each other
const MAX_LISTED = 8; // lines; the others are summarized
const THRESHOLD_REACH = 1.5; // times the range of the values; the chart does not show a threshold that is further away
const SCORES = new Set(["episodes.reward", "evaluations.mean_return", "evaluations.min_return"]);
const LOGARITHMIC = new Set(["loss", "gradient_norm"]); // logarithmic by default if they span a decade
const NOT_NEGATIVE = new Set([...LOGARITHMIC, "learning_rate", "epsilon", "length", "std_return"]);
const SHARES = new Set(["epsilon", "outcome"]);
const MAX_DOTTED = 100; // evaluations of a line; more dots would merge

const metricOf = (name) => name.split(".")[1];

/** Return whether a series can have a logarithmic y axis: whether it is never negative. */
export const canBeLogarithmic = (name) => NOT_NEGATIVE.has(metricOf(name));

/**
 * Return the content of a chart between x[0] and x[1]. ``y`` is the zoomed range (null: the whole range), ``scale`` is
 * "log", "linear" or null (the default), and ``outcome`` is the outcome to compare between runs.
 *
 * ``strong`` are the main lines, each with its values, ``label`` and ``place``. ``stacked`` is whether they are areas on
 * top of each other. ``whole`` is the whole range of y. ``hidden`` is the number of values that a logarithmic axis omits.
 */
export function chartContent(answered, x, model, { y = null, scale = null, outcome = null } = {}) {
  const content = { x, time: answered.x === "seconds", share: metricOf(answered.name) === "outcome", hidden: 0 };
  const known = stillChosen(answered);
  const stacked = isStacked(known);
  if (stacked) return { ...content, ...stack(known), stacked, y: y ?? [0, 1], whole: [0, 1], log: false };
  const answer = ofOutcome(known, outcome);
  const parts = partsOf(answer, model);
  const log = isLogarithmic(answer.name, parts.strong, scale);
  const drawn = log ? positive(parts) : parts;
  const whole = yRange(answer, { ...drawn, log }, x);
  const shown = y !== null && !(log && y[0] <= 0) ? y : whole;
  if (log) for (const area of drawn.areas) area.low = area.low.map((low) => low ?? shown[0]);
  return { ...content, ...drawn, stacked, y: shown, whole, log };
}

/** Return the lines, areas, marks and rings of a chart. */
function partsOf(answer, model) {
  const strong = [...bandLines(answer, model), ...runLines(answer, model)];
  const scored = SCORES.has(answer.name);
  const marks = scored ? thresholds(answer, model.byId) : [];
  const evaluated = answer.name.startsWith("evaluations.");
  const faint = faintLines(answer);
  const lines = [
    ...faint,
    ...strong.map((line) => {
      const dots = evaluated && line.x.length <= MAX_DOTTED ? 3 : undefined;
      return { ...line, ...look(line.place), width: 2, dots };
    }),
  ];
  const areas = answer.bands.map((band) => ({ ...band, color: look(slot(band.ids[0])).color }));
  const rings = answer.name === "evaluations.mean_return" ? best(strong, model.byId, answer.x) : [];
  return { lines, areas, marks, rings, strong };
}

function isLogarithmic(name, strong, scale) {
  if (!canBeLogarithmic(name) || scale === "linear") return false;
  const range = positiveRange(strong);
  return scale === "log" ? range !== null : LOGARITHMIC.has(metricOf(name)) && range !== null && range[1] >= 10 * range[0];
}

/** Return the parts of a chart without the values <= 0, which a logarithmic axis cannot show, and their number. */
function positive({ lines, areas, strong, ...others }) {
  const known = (values) => values.map((value) => (value > 0 ? value : null));
  const hidden = strong.reduce((sum, { y }) => sum + y.filter((value) => value !== null && value <= 0).length, 0);
  return {
    ...others,
    lines: lines.map((line) => ({ ...line, y: known(line.y) })),
    areas: areas.map((area) => ({ ...area, low: known(area.low), high: known(area.high) })),
    strong,
    hidden,
  };
}

/** Return the part of a response for runs that are still selected and not replaced by a newer run with the same seed. */
function stillChosen(answer) {
  const chosen = (id) => slot(id) !== null;
  const bands = answer.bands.filter((band) => band.ids.every(chosen));
  const shown = (id) => chosen(id) && !bands.some((band) => Object.hasOwn(band.replaced, id));
  return { ...answer, series: answer.series.filter((one) => shown(one.id)), bands };
}

/** Return messages about selected runs that a response leaves out. ``bands`` is whether bands were requested. */
export function ignoredRuns(answer, model, bands) {
  const timeless = answer.series.map((one) => one.id).filter((id) => model.byId.get(id)?.seconds === null);
  const without = answer.x === "seconds" ? [...new Set(timeless)] : [];
  const replaced = answer.bands.flatMap((band) => Object.keys(band.replaced));
  const older = some([...new Set(replaced)].map(model.label));
  return [
    without.length > 0 && `Without an evaluation, the training time is unknown: ${some(without.map(model.label))}.`,
    bands && answer.bands.length === 0 && "There is no band, because no two selected runs differ only in the seed.",
    older && `A band uses only the newest run of each seed. Ignored: ${older}.`,
  ].filter(Boolean);
}

/** Return the name of the line in the middle of a band. */
export function bandLabel({ group, ids }, model) {
  const mean = ids.length < 4 ? "mean" : "interquartile mean"; // of fewer than four values, they are equal
  return `${model.groupLabel(group)}, ${mean} of ${count(ids.length, "seed")}`;
}

function bandLines(answer, model) {
  return answer.bands.map((band) => ({
    label: bandLabel(band, model),
    place: slot(band.ids[0]),
    x: band.x,
    y: band.mean,
    low: band.low,
    high: band.high,
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
  const isDrawn = answer.series.length <= MAX_RAW && metricOf(answer.name) !== "outcome"; // an episode has one outcome
  const raw =
    isDrawn ? answer.series.filter((one) => !banded.has(one.id)) : [];
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
      x: found[x === "episode" ? "episodes" : x],
      y: found.mean_return,
      color: look(line.place).color,
    }));
}

/** Return the lowest and the highest value > 0 of the lines, or null if there is none. */
function positiveRange(strong) {
  const [low, high] = extent(strong.flatMap(({ y }) => y.filter((value) => value > 0)));
  return low <= high ? [low, high] : null;
}

function yRange(answer, { lines, areas, marks, strong, log }, x) {
  if (SHARES.has(metricOf(answer.name)) && !log) return [-0.03, 1.03];
  const values = [];
  for (const line of lines) values.push(...visible(line.x, line.y, x));
  for (const area of areas) for (const edge of [area.low, area.high]) values.push(...visible(area.x, edge, x));
  if (values.length === 0) return log ? [1, 10] : [0, 1];
  let [low, high] = extent(values);
  const isCurve = strong.some((line) => line.x.length > 1);
  const reach = isCurve ? THRESHOLD_REACH * (high - low) : Infinity; // single points have no range
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
 * Return the values at x (null: the latest): ``listed`` as [{place, label, value, low, high}], and ``rest``, a summary of
 * the other lines. If y is not null, list the lines nearest to y. The values are null if x is further than ``slack`` from
 * a line.
 */
export function readings(strong, x, y, slack, format = number) {
  const all = strong.map((line) => {
    const there = x === null || (line.x[0] - slack <= x && x <= line.x.at(-1) + slack);
    const at = (y) => (y && there ? valueAt({ x: line.x, y }, x) : null);
    const [value, low, high] = [line.y, line.low, line.high].map(at);
    return { place: line.place, label: line.label, value, low, high };
  });
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
        ? `and ${more} more, from ${format(Math.min(...values))} to ${format(Math.max(...values))}`
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
export function describe(strong, format = number) {
  if (strong.length === 0) return "No data yet.";
  const first = strong.slice(0, MAX_LISTED).map(({ label, y, count: rows }) => {
    const values = y.filter((value) => value !== null);
    if (values.length === 0) return `${label}: no data yet.`;
    const [low, high] = extent(values);
    return `${label}: ${count(rows, "value")}, from ${format(low)} to ${format(high)}, latest ${format(values.at(-1))}.`;
  });
  const more = strong.length - first.length;
  return first.join(" ") + (more > 0 ? ` And ${count(more, "more line")}.` : "");
}
