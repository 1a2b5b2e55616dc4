// Numbers and names, for people.

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A number in a few characters: 12,345  312.4  0.0123  2.1e-6; an en dash for what is not known. */
export function number(value) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const words =
    Number.isInteger(value) || size >= 1000
      ? size < 1e15
        ? WHOLE.format(value)
        : value.toExponential(2)
      : size >= 100
        ? value.toFixed(1)
        : size >= 1
          ? value.toFixed(2)
          : size >= 1e-3
            ? String(Number(value.toPrecision(3)))
            : value.toExponential(1);
  return words.replace(/^-/, "−");
}

/** A number for an axis: 20k, 1.5M. */
export function brief(value) {
  const size = Math.abs(value);
  const [unit, letter] = size >= 1e6 ? [1e6, "M"] : size >= 1e4 ? [1e3, "k"] : [1, ""];
  const scaled = Number((value / unit).toPrecision(size >= 1e4 ? 4 : 6));
  return (size > 0 && size < 1e-3 ? value.toExponential(0) : String(scaled)).replace(/^-/, "−") + letter;
}

/** "1 run", "3 runs". */
export function count(many, thing) {
  return `${number(many)} ${thing}${many === 1 ? "" : "s"}`;
}

/** The first few of ``names``, and how many more there are. */
export function some(names) {
  const more = names.length - 3;
  return names.slice(0, 3).join(", ") + (more > 0 ? ` and ${number(more)} more` : "");
}

/** ``words`` without their middle where they are longer than ``most``: names often differ at the end alone. */
export function shortened(words, most) {
  const ends = Math.floor((most - 1) / 2);
  return words.length <= most ? words : `${words.slice(0, ends)}…${words.slice(-ends)}`;
}

/** Seconds as 1:05.2. */
export function clock(seconds) {
  const tenths = Math.round(Math.max(0, seconds) * 10);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  return `${Math.floor(tenths / 600)}:${rest}`;
}

/** What a chart's x is. */
export const ACROSS = { env_steps: "environment steps", episode: "episodes" };

const TITLES = {
  "episodes.reward": ["Reward", "sum over the episode"],
  "evaluations.mean_return": ["Greedy evaluation", "mean return"],
  "evaluations.std_return": ["Spread of the evaluation", "standard deviation of the returns"],
  "evaluations.min_return": ["Worst of the evaluation", "lowest return"],
  "episodes.length": ["Episode length", "environment steps"],
  "episodes.loss": ["Loss", "mean over the episode's updates"],
  "episodes.epsilon": ["Epsilon", "share of random actions"],
  "episodes.target_syncs": ["Target syncs", "of the target network, so far"],
  "metrics.loss": ["Loss of an update", "of the latest batch"],
  "metrics.mean_q": ["Mean Q", "over the latest batch"],
  "metrics.mean_td_target": ["Mean TD target", "over the latest batch"],
  "metrics.gradient_norm": ["Gradient norm", "before clipping"],
  "metrics.learning_rate": ["Learning rate", "of the optimiser"],
  "metrics.epsilon": ["Epsilon of an update", "share of random actions"],
};

/** Title of a chart, and what its values are. */
export function title(name) {
  const bare = name.split(".").slice(1).join(".").replaceAll("_", " ");
  return TITLES[name] ?? [bare.charAt(0).toUpperCase() + bare.slice(1), name.split(".")[0]];
}
