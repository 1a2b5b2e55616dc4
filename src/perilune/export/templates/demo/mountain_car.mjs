// MountainCar-v0 with the equations of Gymnasium:
// https://gymnasium.farama.org/environments/classic_control/mountain_car/

import { arrow, circle, flag, polygon } from "./shapes.mjs";

export const physics = "The page computes the same equations as Gymnasium's MountainCar-v0, in double precision.";
export const goal = "The motor is too weak for the hill. The agent swings back and forth until the car reaches the flag.";
export const stepsPerSecond = 30;
export const maxSteps = 200;
export const keys = { left: 0, right: 2 };
export const idle = [1];

const lowest = -1.2;
const highest = 0.6;
const fastest = 0.07;
const target = 0.5;
const power = 0.001;
const gravity = 0.0025;

/** Position and velocity. */
export const state = new Float64Array(2);
const before = new Float64Array(2);

export function reset(random) {
  state[0] = -0.6 + 0.2 * random();
  state[1] = 0;
  before.set(state);
}

export function step(action) {
  before.set(state);
  let [position, velocity] = state;
  velocity = clip(velocity + ((action - 1) * power + Math.cos(3 * position) * -gravity), -fastest, fastest);
  position = clip(position + velocity, lowest, highest);
  if (position === lowest && velocity < 0) velocity = 0;
  state[0] = position;
  state[1] = velocity;
  return { reward: -1, terminated: position >= target && velocity >= 0 };
}

export function observe() {
  return Float32Array.from(state);
}

export function outcome(terminated) {
  return terminated ? "reached the goal" : "ran out of time";
}

/** Push the car: change its velocity. */
export function disturb(direction) {
  state[1] = clip(state[1] + 0.015 * direction, -fastest, fastest);
}

export function draw(context, width, height, { colors, blend, push }) {
  const scale = width / (highest - lowest);
  const x = before[0] + blend * (state[0] - before[0]);
  const at = (position) => [(position - lowest) * scale, height - (0.45 * Math.sin(3 * position) + 0.5) * scale];
  const hill = Array.from({ length: 121 }, (_, i) => at(lowest + ((highest - lowest) * i) / 120));
  polygon(context, [...hill, [width, height], [0, height]], colors.soil);
  flag(context, ...at(target), 0.16 * scale, colors.muted, colors.flag);
  context.save();
  context.translate(...at(x));
  context.rotate(-Math.atan(1.35 * Math.cos(3 * x)));
  const size = 0.13 * scale; // length of the car
  context.fillStyle = colors.agent;
  context.beginPath();
  context.roundRect(-0.5 * size, -0.55 * size, size, 0.34 * size, 0.08 * size);
  context.roundRect(-0.28 * size, -0.78 * size, 0.52 * size, 0.3 * size, 0.1 * size);
  context.fill();
  for (const wheel of [-0.28, 0.28]) {
    circle(context, wheel * size, -0.17 * size, 0.17 * size, colors.ink);
    circle(context, wheel * size, -0.17 * size, 0.07 * size, colors.surface);
  }
  if (push) arrow(context, 0, -1.3 * size, size, push, colors.accent);
  context.restore();
}

function clip(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
