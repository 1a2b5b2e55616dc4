// Pure functions for the shares of the outcomes: stacked areas for one run, a line per run for several runs.

import { ink, look } from "./palette.js";

/** Return the outcomes in the response for a series, without duplicates. */
export function outcomesOf(answer) {
  return [...new Set(answer.series.map((one) => one.outcome))].filter(Boolean);
}

const countRuns = (answer) => new Set(answer.series.map((one) => one.id)).size;

/** Return whether the response contains the shares of a single run. */
export function isStacked(answer) {
  return answer.bands.length === 0 && outcomesOf(answer).length > 0 && countRuns(answer) === 1;
}

/** Return the outcome that is compared: ``wanted`` if it is in the response, else the first. */
export function comparedOutcome(answer, wanted) {
  const outcomes = outcomesOf(answer);
  return outcomes.includes(wanted) ? wanted : outcomes[0];
}

/** Return the part of a response about the compared outcome; the whole response if it has no outcomes. */
export function ofOutcome(answer, wanted) {
  const outcome = comparedOutcome(answer, wanted);
  if (outcome === undefined) return answer;
  const isSame = (one) => one.outcome === outcome;
  return { ...answer, series: answer.series.filter(isSame), bands: answer.bands.filter(isSame) };
}

/** Return the content of a chart with the outcomes of a run on top of each other. The first is at the bottom. */
export function stack({ series }) {
  let low = series[0].x.map(() => 0);
  const areas = [];
  for (const [place, { x, mean }] of series.entries()) {
    const high = low.map((base, index) => base + (mean[index] ?? 0));
    areas.push({ x, low, high, color: look(place).color, alpha: 0.75 });
    low = high;
  }
  const strong = series
    .filter((one) => one.x.length > 0)
    .map((one) => {
      const place = series.indexOf(one);
      return { label: one.outcome, place, x: one.x, y: one.mean, count: one.count };
    });
  const edges = areas.slice(0, -1).map(({ x, high }) => ({ x, y: high, color: ink("surface"), width: 1, dots: 0 }));
  const dots = strong.map((line) => ({ ...line, ...look(line.place), dots: 3 }));
  const isPoint = strong.every((line) => line.x.length === 1); // an area without a width
  return { lines: isPoint ? dots : edges, areas, marks: [], rings: [], strong };
}
