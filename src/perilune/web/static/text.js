// Format numbers and names as text.

const DIGITS = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/**
 * Format a number in a few characters: 12,345, 312.4, 0.0123 or 2.1e-6. Return an en dash if it is unknown. Python formats
 * numbers and durations in the same way, in text.py.
 */
export function number(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const digits =
    Number.isInteger(value) || size >= 1000
      ? size < 1e15
        ? WHOLE.format(value)
        : value.toExponential(1)
      : size >= 10
        ? String(Number(value.toFixed(1)))
        : size >= 1e-3
          ? String(Number(value.toPrecision(3)))
          : value.toExponential(1);
  return digits.replace(/^-/, "−");
}

/** Format a number with a unit: 2,500, 20k or 1.5M. ``precision`` is the number of digits from 10,000 on. */
export function brief(value, precision = 4) {
  const size = Math.abs(value);
  const [unit, letter] = size >= 1e6 ? [1e6, "M"] : size >= 1e4 ? [1e3, "k"] : [1, ""];
  const scaled = Number((value / unit).toPrecision(size >= 1e4 ? precision : 6));
  const digits = size > 0 && size < 1e-3 ? Number(value.toPrecision(3)).toExponential() : DIGITS.format(scaled);
  return digits.replace(/^-/, "−") + letter;
}

/** Format a count with its noun: "1 run" or "3 runs". */
export function count(many, noun) {
  return `${number(many)} ${noun}${many === 1 ? "" : "s"}`;
}

/** List the first three of ``names`` and the number of the others. */
export function some(names) {
  const more = names.length - 3;
  return names.slice(0, 3).join(", ") + (more > 0 ? ` and ${number(more)} more` : "");
}

/** Shorten a name to ``longest`` characters. Cut the middle, because names often differ only at the end. */
export function shortened(name, longest) {
  const ends = Math.floor((longest - 1) / 2);
  return name.length <= longest ? name : `${name.slice(0, ends)}…${name.slice(-ends)}`;
}

/** Format seconds as minutes and seconds: 1:05.2. */
export function clock(seconds) {
  const tenths = Math.round(Math.max(0, seconds) * 10);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return `${Math.floor(tenths / 600)}:${rest}`;
}

/** Format a share as a percentage. */
export function percent(share) {
  return typeof share === "number" ? `${Math.round(100 * share)}%` : "–";
}

/** Format seconds as 31.4 s, 2 min 05 s or 1 h 02 min. */
export function duration(seconds) {
  const rounded = Math.round(seconds);
  if (rounded < 60) return `${Number(seconds.toFixed(1))} s`;
  const [large, small, all] = rounded < 3600 ? ["min", "s", rounded] : ["h", "min", Math.round(seconds / 60)];
  const [whole, rest] = [Math.floor(all / 60), all % 60];
  return `${number(whole)} ${large}${rest ? ` ${String(rest).padStart(2, "0")} ${small}` : ""}`;
}

/** Labels of the x axis. */
export const X_LABELS = { env_steps: "environment steps", episode: "episodes", seconds: "training time" };

const TITLES = {
  "episodes.reward": ["Return", "sum of rewards per episode"],
  "evaluations.mean_return": ["Evaluation mean", "mean return of greedy episodes"],
  "evaluations.std_return": ["Evaluation std", "standard deviation of the returns"],
  "evaluations.min_return": ["Evaluation minimum", "lowest return"],
  "episodes.outcome": ["Outcomes over time", "share of the episodes"],
  "episodes.length": ["Episode length", "environment steps"],
  "episodes.loss": ["Loss", "mean per episode"],
  "episodes.epsilon": ["Epsilon", "probability of a random action"],
  "episodes.target_syncs": ["Target updates", "of the target network so far"],
  "metrics.mean_q": ["Mean Q", "latest batch"],
  "metrics.mean_td_target": ["Mean TD target", "latest batch"],
  "metrics.gradient_norm": ["Gradient norm", "before clipping"],
  "metrics.learning_rate": ["Learning rate", "of the optimizer"],
};

/** Return the title and subtitle of a chart. */
export function title(name) {
  const bare = name.split(".").slice(1).join(".").replaceAll("_", " ");
  return TITLES[name] ?? [bare.charAt(0).toUpperCase() + bare.slice(1), name.split(".")[0]];
}
