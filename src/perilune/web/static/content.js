// From the server's answer about a metric to what its chart shows, and says. Pure functions.

import { before } from "./drawing.js";
import { look, slot } from "./palette.js";
import { count as howMany, number, some } from "./text.js";

const RAW_UP_TO = 8; // runs; the raw values of more cover one another
const SAID_UP_TO = 8; // lines; of more the rest is summed up
const GOAL_WITHIN = 1.5; // of the spread of the values, or a mark is too far off to be on the chart
const SCORES = new Set(["episodes.reward", "evaluations.mean_return", "evaluations.min_return"]);
const SPREADING = new Set(["loss", "gradient_norm"]); // over decades, maybe: these may have a logarithmic axis
const SHARES = new Set(["epsilon"]);

/**
 * What the chart of ``answered`` shows between x[0] and x[1]; also ``strong``, the lines that are read off, each with
 * its ``label`` and ``place``. ``model`` knows the runs.
 */
export function chartContent(answered, x, model) {
  const answer = stillChosen(answered);
  const strong = [...bandLines(answer, model), ...runLines(answer, model)];
  const scored = SCORES.has(answer.name);
  const marks = scored ? solved(answer, model.byId) : [];
  const evaluated = answer.name.startsWith("evaluations.");
  const faint = faintLines(answer);
  const lines = [
    ...faint,
    ...strong.map((line) => ({ ...line, ...look(line.place), width: 2, dots: evaluated && line.id ? 3 : undefined })),
  ];
  const areas = answer.bands.map((band) => ({ ...band, colour: look(slot(band.ids[0])).colour }));
  const log = SPREADING.has(answer.name.split(".")[1]) && spreads(strong);
  const rings = answer.name === "evaluations.mean_return" ? best(strong, model.byId, answer.x) : [];
  return { lines, areas, marks, rings, strong, x, log, y: yRange(answer, { strong, faint, areas, marks, log }, x) };
}

/** What of an answer is of runs that have not been put aside meanwhile, nor left out of a band. */
function stillChosen(answer) {
  const chosen = (id) => slot(id) !== null;
  const bands = answer.bands.filter((band) => band.ids.every(chosen));
  const shown = (id) => chosen(id) && !bands.some((band) => Object.hasOwn(band.left_out, id));
  return { ...answer, series: answer.series.filter((one) => shown(one.id)), bands };
}

/** What is to be said of the runs that an answer's bands leave out; nothing where there are none. */
export function leftOut(answer, model) {
  if (answer.bands.length === 0) return ["There is no band: no two of the runs shown differ in nothing but the seed."];
  const ids = answer.bands.flatMap((band) => Object.keys(band.left_out));
  const names = some(ids.map(model.label));
  return ids.length === 0 ? [] : [`In a band a seed counts once, with its newest run. Left out: ${names}.`];
}

function bandLines(answer, model) {
  return answer.bands.map((band) => ({
    label: `${model.groupLabel(band.group)}, ${howMany(band.ids.length, "seed")}`,
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

/** The raw values of the runs; of those in a band, their averages. */
function faintLines(answer) {
  const banded = inBands(answer);
  const raw =
    answer.series.length <= RAW_UP_TO ? answer.series.filter((one) => !banded.has(one.id) && one.raw !== one.mean) : [];
  return [
    ...raw.map((one) => ({
      x: one.x,
      y: one.raw,
      colour: look(slot(one.id)).colour,
      alpha: raw.length > 1 ? 0.22 : 0.32,
      width: 0.9,
    })),
    ...answer.series
      .filter((one) => banded.has(one.id))
      .map((one) => ({
        x: one.x,
        y: one.mean,
        colour: look(slot(banding(answer, one.id).ids[0])).colour,
        alpha: 0.35,
        width: 0.9,
      })),
  ];
}

const banding = (answer, id) => answer.bands.find((band) => band.ids.includes(id));

/** Where the environments of an answer's runs count as solved; of several it is said which. */
function solved(answer, byId) {
  const runs = answer.series.map((one) => byId.get(one.id)).filter((run) => typeof run?.reward_threshold === "number");
  const marks = new Map(); // to the environments
  for (const { reward_threshold: mark, environment } of runs)
    marks.set(mark, (marks.get(mark) ?? new Set()).add(environment));
  const whose = (environments) => (marks.size > 1 ? `${some([...environments])} ` : "");
  return [...marks].map(([y, environments]) => ({ y, words: `${whose(environments)}solved at ${number(y)}` }));
}

function best(strong, runs, x) {
  return strong
    .map((line) => [line, runs.get(line.id)?.best])
    .filter(([, found]) => found)
    .map(([line, found]) => ({
      x: x === "episode" ? found.episodes : found.env_steps,
      y: found.mean_return,
      colour: look(line.place).colour,
    }));
}

function spreads(strong) {
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
  const inside = (line, of) => values.push(...drawn(line.x, of, x).filter((value) => !log || value > 0));
  for (const line of [...faint, ...strong]) inside(line, line.y);
  for (const area of areas) for (const edge of [area.low, area.high]) inside(area, edge);
  if (values.length === 0) return log ? [1, 10] : [0, 1];
  let [low, high] = extent(values);
  const reach = GOAL_WITHIN * (high - low);
  [low, high] = extent([
    low,
    high,
    ...marks.map((mark) => mark.y).filter((y) => y <= high + reach && y >= low - reach),
  ]);
  if (log) return [low / 1.3, high * 1.3];
  const room = high > low ? (high - low) * 0.06 : Math.max(Math.abs(high) * 0.1, 1e-9);
  return [low - room, high + room];
}

/** The values of a line that are to be seen from x[0] to x[1], those that it has at these ends as well. */
function drawn(across, y, x) {
  const [first, last] = [before(across, x[0]), before(across, x[1])];
  const end = (at, after) => {
    if (across[after] === at) return y[after];
    const [low, high] = [y[after - 1] ?? null, y[after] ?? null];
    if (low === null || high === null) return null;
    return low + ((high - low) * (at - across[after - 1])) / (across[after] - across[after - 1]);
  };
  const ends = [end(x[0], first), end(x[1], last)];
  return [...y.slice(first, last), ...ends].filter((value) => value !== null);
}

/** Lowest and highest of many; null is no value. */
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
 * The values at x (null: the last ones): [{place, label, value}], and words for the lines beyond the first few. Of many
 * lines the first are those nearest to y, where that is given.
 */
export function readings(strong, x, y) {
  const all = strong.map((line) => ({ place: line.place, label: line.label, value: valueAt(line, x) }));
  if (y !== null && all.length > SAID_UP_TO)
    all.sort((a, b) => Math.abs((a.value ?? Infinity) - y) - Math.abs((b.value ?? Infinity) - y));
  const known = all
    .slice(SAID_UP_TO)
    .map((one) => one.value)
    .filter((value) => value !== null);
  const more = all.length - SAID_UP_TO;
  const rest =
    more <= 0
      ? ""
      : known.length
        ? `and ${more} more, from ${number(Math.min(...known))} to ${number(Math.max(...known))}`
        : `and ${more} more`;
  return { said: all.slice(0, SAID_UP_TO), rest };
}

function valueAt({ x, y }, at) {
  if (x.length === 0) return null;
  if (at === null) return y.at(-1);
  const after = Math.min(before(x, at), x.length - 1);
  const nearest = after > 0 && at - x[after - 1] < x[after] - at ? after - 1 : after;
  return y[nearest];
}

/** The chart in a sentence or a few, for people who do not see it. */
export function inWords(strong) {
  if (strong.length === 0) return "Nothing yet.";
  const first = strong.slice(0, SAID_UP_TO).map(({ label, y, count }) => {
    const values = y.filter((value) => value !== null);
    if (values.length === 0) return `${label}: nothing yet.`;
    const [low, high] = extent(values);
    return `${label}: ${howMany(count, "value")}, from ${number(low)} to ${number(high)}, the last ${number(values.at(-1))}.`;
  });
  const more = strong.length - first.length;
  return first.join(" ") + (more > 0 ? ` And ${more} more.` : "");
}
