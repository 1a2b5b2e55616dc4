// Acrobot-v1 with the equations of Gymnasium: https://gymnasium.farama.org/environments/classic_control/acrobot/

import { arrow, circle, line } from "./shapes.mjs";

export const physics = "The page computes the same equations as Gymnasium's Acrobot-v1, in double precision.";
export const goal = "The agent applies torque to the joint between the links, until the free end is above the line.";
export const stepsPerSecond = 15;
export const maxSteps = 500;
export const keys = { left: 0, right: 2 };
export const idle = [1];

const seconds = 0.2; // per step
const fastest = [4 * Math.PI, 9 * Math.PI];
const gravity = 9.8;

// Both links have a mass of 1 kg, a length of 1 m, a moment of inertia of 1 kg m2, and their center of mass is at 0.5 m.
const mass = 1;
const length = 1;
const middle = 0.5;
const inertia = 1;

/** Angle of the first link (0 is down), angle of the second link relative to the first, and their velocities. */
export const state = new Float64Array(4);
const before = new Float64Array(4);

export function reset(random) {
  for (let i = 0; i < 4; i++) state[i] = Math.fround(-0.1 + 0.2 * random()); // float32, as in Gymnasium
  before.set(state);
}

export function step(action) {
  before.set(state);
  const torque = action - 1;
  const next = rungeKutta((each) => derivative(each, torque), Array.from(state), seconds);
  state[0] = wrap(next[0]);
  state[1] = wrap(next[1]);
  for (const i of [0, 1]) state[2 + i] = clip(next[2 + i], fastest[i]);
  const terminated = -Math.cos(state[0]) - Math.cos(state[1] + state[0]) > 1;
  return { reward: terminated ? 0 : -1, terminated };
}

/** Return the time derivative of the state. Terms are in the order of Gymnasium, so that they round alike. */
function derivative([angle1, angle2, velocity1, velocity2], torque) {
  const [cos2, sin2] = [Math.cos(angle2), Math.sin(angle2)];
  const d1 =
    mass * middle ** 2 + mass * (length ** 2 + middle ** 2 + 2 * length * middle * cos2) + inertia + inertia;
  const d2 = mass * (middle ** 2 + length * middle * cos2) + inertia;
  const phi2 = mass * middle * gravity * Math.cos(angle1 + angle2 - Math.PI / 2);
  const phi1 =
    -mass * length * middle * velocity2 ** 2 * sin2 -
    2 * mass * length * middle * velocity2 * velocity1 * sin2 +
    (mass * middle + mass * length) * gravity * Math.cos(angle1 - Math.PI / 2) +
    phi2;
  const acceleration2 =
    (torque + (d2 / d1) * phi1 - mass * length * middle * velocity1 ** 2 * sin2 - phi2) /
    (mass * middle ** 2 + inertia - d2 ** 2 / d1);
  return [velocity1, velocity2, -(d2 * acceleration2 + phi1) / d1, acceleration2];
}

/** Return the state after one step of the classical Runge-Kutta method. */
function rungeKutta(f, y, dt) {
  const after = (k, time) => y.map((value, i) => value + time * k[i]);
  const k1 = f(y);
  const k2 = f(after(k1, dt / 2));
  const k3 = f(after(k2, dt / 2));
  const k4 = f(after(k3, dt));
  return y.map((value, i) => value + (dt / 6) * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]));
}

export function observe() {
  const [angle1, angle2, velocity1, velocity2] = state;
  return Float32Array.of(
    Math.cos(angle1), Math.sin(angle1), Math.cos(angle2), Math.sin(angle2), velocity1, velocity2,
  );
}

export function outcome(terminated) {
  return terminated ? "reached the goal" : "ran out of time";
}

/** Push the second link: change its angular velocity. */
export function disturb(direction) {
  state[3] = clip(state[3] + 2 * direction, fastest[1]);
}

export function draw(context, width, height, { colors, blend, push }) {
  const scale = height / 4.6;
  const [x, y] = [width / 2, height / 2];
  const [angle1, angle2] = [0, 1].map((i) => before[i] + blend * wrap(state[i] - before[i]));
  const joint = [x + scale * Math.sin(angle1), y + scale * Math.cos(angle1)];
  const tip = [joint[0] + scale * Math.sin(angle1 + angle2), joint[1] + scale * Math.cos(angle1 + angle2)];
  line(context, [[0, y - scale], [width, y - scale]], colors.flag, 2, [6, 6]);
  line(context, [[x, y], joint], colors.ink, 0.18 * scale);
  line(context, [joint, tip], colors.agent, 0.18 * scale);
  for (const point of [[x, y], joint]) circle(context, ...point, 0.05 * scale, colors.surface);
  if (push) arrow(context, tip[0], Math.min(tip[1] + 0.35 * scale, height - 16), 0.5 * scale, push, colors.accent);
}

function wrap(angle) {
  let wrapped = angle;
  while (wrapped > Math.PI) wrapped -= 2 * Math.PI;
  while (wrapped < -Math.PI) wrapped += 2 * Math.PI;
  return wrapped;
}

function clip(value, largest) {
  return Math.min(Math.max(value, -largest), largest);
}
