// CartPole-v1 with the equations of Gymnasium: https://gymnasium.farama.org/environments/classic_control/cart_pole/

import { arrow, circle, line } from "./shapes.mjs";

export const physics = "The page computes the same equations as Gymnasium's CartPole-v1, in double precision.";
export const goal = "The agent pushes the cart left or right to keep the pole upright.";
export const stepsPerSecond = 50;
export const maxSteps = 500;
export const keys = { left: 0, right: 1 };
export const idle = [0, 1]; // alternating pushes nearly cancel

const gravity = 9.8;
const poleMass = 0.1;
const totalMass = 1.1;
const halfLength = 0.5; // of the pole
const force = 10;
const seconds = 0.02; // per step
const largestPosition = 2.4;
const largestAngle = (12 * 2 * Math.PI) / 360;

/** Position, velocity, angle of the pole, angular velocity. */
export const state = new Float64Array(4);
const before = new Float64Array(4);

export function reset(random) {
  for (let i = 0; i < 4; i++) state[i] = -0.05 + 0.1 * random();
  before.set(state);
}

export function step(action) {
  before.set(state);
  const [x, velocity, angle, turn] = state;
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  const push = ((action === 1 ? force : -force) + poleMass * halfLength * (turn * turn) * sin) / totalMass;
  const angular =
    (gravity * sin - cos * push) / (halfLength * (4 / 3 - (poleMass * (cos * cos)) / totalMass));
  const acceleration = push - (poleMass * halfLength * angular * cos) / totalMass;
  state[0] = x + seconds * velocity;
  state[1] = velocity + seconds * acceleration;
  state[2] = angle + seconds * turn;
  state[3] = turn + seconds * angular;
  const terminated = Math.abs(state[0]) > largestPosition || Math.abs(state[2]) > largestAngle;
  return { reward: 1, terminated };
}

export function observe() {
  return Float32Array.from(state);
}

export function outcome(terminated) {
  if (!terminated) return "balanced";
  return Math.abs(state[0]) > largestPosition ? "left the track" : "fell";
}

/** Push the pole: change its angular velocity. */
export function disturb(direction) {
  state[3] += 0.6 * direction;
}

export function draw(context, width, height, { colors, blend, push }) {
  const [x, , angle] = state.map((value, i) => before[i] + blend * (value - before[i]));
  const scale = width / 5.4;
  const floor = 0.74 * height;
  const center = width / 2 + x * scale;
  const axle = floor - 0.3 * scale;
  line(context, [[0, floor], [width, floor]], colors.edge, 2);
  for (const end of [-largestPosition, largestPosition]) {
    const at = width / 2 + end * scale;
    line(context, [[at, floor - 0.16 * scale], [at, floor + 0.16 * scale]], colors.muted, 2);
  }
  const length = 2 * halfLength * scale * 1.6; // longer than in the equations, so that the angle can be seen
  for (const limit of [-largestAngle, largestAngle]) {
    const end = [center + length * Math.sin(limit), axle - length * Math.cos(limit)];
    line(context, [[center, axle], end], colors.edge, 1.5, [4, 6]);
  }
  context.fillStyle = colors.ink;
  context.beginPath();
  context.roundRect(center - 0.34 * scale, axle - 0.1 * scale, 0.68 * scale, 0.32 * scale, 0.06 * scale);
  context.fill();
  for (const wheel of [-0.2, 0.2]) {
    circle(context, center + wheel * scale, floor - 0.08 * scale, 0.08 * scale, colors.muted);
  }
  const tip = [center + length * Math.sin(angle), axle - length * Math.cos(angle)];
  line(context, [[center, axle], tip], colors.agent, 0.1 * scale);
  circle(context, center, axle, 0.045 * scale, colors.surface);
  if (push) arrow(context, tip[0] - 0.5 * scale * push, tip[1], 0.5 * scale, push, colors.accent);
}
