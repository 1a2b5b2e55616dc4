// Format the values of settings for people.

const MINUS = "−";
const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const UNITS = {
  steps: ["train.steps", "train.max_episode_steps", "train.eval_every", "train.metrics_every", "agent.train_freq"],
  episodes: ["train.episodes", "train.eval_episodes", "train.video_every"],
  seconds: ["train.checkpoint_seconds"],
  transitions: ["agent.batch_size", "agent.buffer_size"],
  units: ["agent.hidden"],
};
const STEPS = /^agent\.(.+_steps|n_step|target_update_interval|learning_starts|max_action_repeat)$/;
const unitOf = (path) =>
  Object.keys(UNITS).find((unit) => UNITS[unit].includes(path)) ?? (STEPS.test(path) ? "steps" : null);

/** Return the value of a setting as text: exact numbers, words instead of true, false and null, and lists. */
export function plain(value, path = "") {
  if (value === null || value === undefined) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return path === "seed" ? String(value) : exact(value);
  if (Array.isArray(value)) return value.map(item).join(", ") || "none";
  if (typeof value === "object") return Object.entries(value).map(([name, one]) => `${name} ${plain(one)}`).join(", ");
  return value || "empty";
}

/** Return an item of a list as text. A layer with its own activation is a list, for example [64, "tanh"]: 64 (tanh). */
function item(value) {
  if (!Array.isArray(value)) return plain(value);
  const [first, ...rest] = value.map((part) => plain(part));
  return rest.length > 0 ? `${first} (${rest.join(", ")})` : (first ?? "none");
}

/** Return the value of a setting with its unit, if it has one. */
export function withUnit(value, path) {
  const unit = value === null ? null : unitOf(path);
  const isRange = path === "agent.value_range" && Array.isArray(value);
  const content = isRange ? value.map((end) => plain(end)).join(" to ") : plain(value, path);
  return unit === null ? content : `${content} ${value === 1 ? unit.slice(0, -1) : unit}`;
}

/** Return all digits of a number: 100,000, 0.0005 or 5e-5. */
function exact(value) {
  const size = Math.abs(value);
  const digits =
    Number.isInteger(value) && size < 1e15
      ? WHOLE.format(value)
      : size >= 1e-4 && size < 1e15
        ? String(value)
        : value.toExponential();
  return digits.replace("e+", "e").replace(/^-/, MINUS);
}
