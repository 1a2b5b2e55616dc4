// LunarLander-v3 with planck, a JavaScript port of Box2D. Sizes, densities, powers and rewards are those of Gymnasium:
// https://gymnasium.farama.org/environments/box2d/lunar_lander/
// The global variable planck is the library.

import { arrow, circle, flag, line, polygon } from "./shapes.mjs";

export const physics =
  "The page approximates the physics of Gymnasium's LunarLander-v3 with planck.js, a JavaScript port of Box2D. " +
  "The pre-trained agent scores 286.6 here and 287.2 in Gymnasium, from the same 100 start states.";
export const goal = "The agent must land gently between the flags.";
export const stepsPerSecond = 50;
export const maxSteps = 1000;
export const keys = { left: 1, up: 2, right: 3 };
export const idle = [0];

const scale = 30; // pixels of Gymnasium per unit of length
const [width, height] = [600 / scale, 400 / scale];
const pad = height / 4; // height of the landing pad
const chunks = 11; // points of the terrain
const hull = [[-14, 17], [-17, 0], [-17, -10], [17, -10], [17, 0], [14, 17]].map(([x, y]) => [x / scale, y / scale]);
// planck 1.4.2 takes the mean of the vertices as the center of mass. Box2D uses the centroid of the area.
const mass = { mass: 4.8166667, center: { x: 0, y: 0.1013072 }, I: 0.8333148 };
const leg = { away: 20 / scale, down: 18 / scale, width: 2 / scale, height: 8 / scale, torque: 40 };
const mainPower = 13;
const sidePower = 0.6;
const gustSteps = 25;
const gustForce = 25;

let random;
let world;
let lander;
let legs;
let terrain;
let crashed;
let shaping; // of the previous state
let gust; // direction and remaining steps
let flames; // what the engines emitted: positions, velocities and age; only drawn

export function reset(source) {
  random = source;
  world = new planck.World({ gravity: { x: 0, y: -10 } });
  crashed = false;
  shaping = null;
  gust = { direction: 0, steps: 0 };
  flames = [];
  buildMoon();
  buildLander();
  world.on("begin-contact", (contact) => touch(contact, true));
  world.on("end-contact", (contact) => touch(contact, false));
  step(0);
}

function buildMoon() {
  const heights = Array.from({ length: chunks + 1 }, () => (height / 2) * random());
  for (let i = -2; i <= 2; i++) heights[5 + i] = pad;
  terrain = Array.from({ length: chunks }, (_, i) => [
    (width / (chunks - 1)) * i,
    0.33 * (heights.at(i - 1) + heights[i] + heights[i + 1]), // the point before the first is the last
  ]);
  const moon = world.createBody();
  moon.createFixture(new planck.Edge({ x: 0, y: 0 }, { x: width, y: 0 }));
  for (let i = 0; i < chunks - 1; i++) {
    const [from, to] = [terrain[i], terrain[i + 1]].map(([x, y]) => ({ x, y }));
    moon.createFixture(new planck.Edge(from, to), { density: 0, friction: 0.1 });
  }
}

function buildLander() {
  const center = { x: width / 2, y: height };
  const material = { restitution: 0, filterMaskBits: 0x001 }; // collides with the moon only
  lander = world.createDynamicBody({ position: center });
  const shape = new planck.Polygon(hull.map(([x, y]) => ({ x, y })));
  lander.createFixture(shape, { ...material, density: 5, friction: 0.1, filterCategoryBits: 0x0010 });
  lander.setMassData(mass);
  const [x, y] = [uniform(1000), uniform(1000)];
  lander.applyForceToCenter({ x, y }, true);
  legs = [-1, 1].map((side) => {
    const position = { x: center.x - side * leg.away, y: center.y };
    const body = world.createDynamicBody({ position, angle: 0.05 * side });
    const box = new planck.Box(leg.width, leg.height);
    body.createFixture(box, { ...material, density: 1, filterCategoryBits: 0x0020 });
    const limits = side < 0 ? { lowerAngle: 0.4, upperAngle: 0.9 } : { lowerAngle: -0.9, upperAngle: -0.4 };
    const anchors = { localAnchorA: { x: 0, y: 0 }, localAnchorB: { x: side * leg.away, y: leg.down } };
    const motor = { enableMotor: true, maxMotorTorque: leg.torque, motorSpeed: 0.3 * side };
    const joint = { ...anchors, ...motor, ...limits, enableLimit: true, referenceAngle: 0 };
    world.createJoint(new planck.RevoluteJoint(joint, lander, body));
    return { body, down: false };
  });
}

function touch(contact, begins) {
  const bodies = [contact.getFixtureA().getBody(), contact.getFixtureB().getBody()];
  if (begins && bodies.includes(lander)) crashed = true;
  for (const each of legs) if (bodies.includes(each.body)) each.down = begins;
}

export function step(action) {
  if (gust.steps > 0) {
    gust.steps--;
    lander.applyForceToCenter({ x: gustForce * gust.direction, y: 0 }, true);
  }
  flames = flames.filter((each) => ++each.age < 16);
  fire(action);
  world.step(1 / stepsPerSecond, 180, 60);
  return score(action);
}

/** Apply the impulse of an engine: action 1 is the left engine, 2 the main engine, 3 the right engine. */
function fire(action) {
  const [sin, cos] = [Math.sin(lander.getAngle()), Math.cos(lander.getAngle())];
  const spread = [uniform(1) / scale, uniform(1) / scale];
  if (action === 0) return;
  const position = lander.getPosition();
  const isMain = action === 2;
  const along = isMain ? 4 / scale + 2 * spread[0] : spread[0];
  const across = isMain ? spread[1] : 3 * spread[1] + ((action - 2) * 12) / scale;
  const [x, y] = [sin * along - cos * across, -cos * along - sin * across];
  const point = isMain
    ? { x: position.x + x, y: position.y + y }
    : { x: position.x + x - (sin * 17) / scale, y: position.y + y + (cos * 14) / scale }; // 17 and 14 as in Gymnasium
  const power = isMain ? mainPower : sidePower;
  lander.applyLinearImpulse({ x: -x * power, y: -y * power }, point, true);
  emit(isMain, action - 2, sin, cos);
}

function score(action) {
  const [x, y, vx, vy, angle, , left, right] = stateInDouble();
  const now =
    -100 * Math.sqrt(x * x + y * y) - 100 * Math.sqrt(vx * vx + vy * vy) - 100 * Math.abs(angle) + 10 * left + 10 * right;
  let reward = shaping === null ? 0 : now - shaping;
  shaping = now;
  if (action === 2) reward -= 0.3;
  if (action === 1 || action === 3) reward -= 0.03;
  let terminated = false;
  if (crashed || Math.abs(x) >= 1) [terminated, reward] = [true, -100];
  if (!lander.isAwake()) [terminated, reward] = [true, 100];
  return { reward, terminated };
}

function stateInDouble() {
  const [position, velocity] = [lander.getPosition(), lander.getLinearVelocity()];
  return [
    (position.x - width / 2) / (width / 2),
    (position.y - (pad + leg.down)) / (height / 2),
    (velocity.x * (width / 2)) / stepsPerSecond,
    (velocity.y * (height / 2)) / stepsPerSecond,
    lander.getAngle(),
    (20 * lander.getAngularVelocity()) / stepsPerSecond,
    Number(legs[0].down),
    Number(legs[1].down),
  ];
}

export function observe() {
  return Float32Array.from(stateInDouble());
}

export function outcome(terminated) {
  if (!terminated) return "hovered";
  if (!lander.isAwake()) return "landed";
  return Math.abs(stateInDouble()[0]) >= 1 ? "flew off" : "crashed";
}

/** Push the lander for half a second. */
export function disturb(direction) {
  gust = { direction, steps: gustSteps };
}

function uniform(limit) {
  return -limit + 2 * limit * random();
}

/** Add three flames of an engine, in units of length. */
function emit(isMain, side, sin, cos) {
  const { x, y } = lander.getPosition();
  const [right, up] = isMain ? [0, -12 / scale] : [(side * 17) / scale, 13 / scale];
  const speed = (isMain ? 4.2 : 2.4) / stepsPerSecond;
  const velocity = lander.getLinearVelocity();
  for (let i = 0; i < (isMain ? 3 : 1); i++) {
    const angle = (Math.random() - 0.5) * 0.5; // not random(), which decides the physics
    const [across, along] = isMain ? [Math.sin(angle), -Math.cos(angle)] : [side * Math.cos(angle), Math.sin(angle)];
    flames.push({
      x: x + right * cos - up * sin,
      y: y + right * sin + up * cos,
      vx: velocity.x / stepsPerSecond + speed * (across * cos - along * sin),
      vy: velocity.y / stepsPerSecond + speed * (across * sin + along * cos),
      age: 4 * Math.random(),
      size: isMain ? 0.2 : 0.12,
    });
  }
}

const scatter = (i) => (((Math.sin(i) * 10_000) % 1) + 1) % 1; // a number in [0, 1), always the same
const stars = Array.from({ length: 80 }, (_, i) => [scatter(3 * i), scatter(3 * i + 1), 0.4 + scatter(3 * i + 2)]);
const colors = { sky: "#0d1220", star: "#8f9bb8", moon: "#8a8f9c", rim: "#c9cdd6", hull: "#8d7bea", leg: "#6657bd" };

export function draw(context, pixelsWide, pixelsHigh, { blend, push }) {
  const unit = pixelsWide / width;
  const at = (x, y) => [x * unit, pixelsHigh - y * unit];
  context.fillStyle = colors.sky;
  context.fillRect(0, 0, pixelsWide, pixelsHigh);
  for (const [x, y, size] of stars) circle(context, x * pixelsWide, y * pixelsHigh, 0.03 * unit * size, colors.star);
  const surface = terrain.map(([x, y]) => at(x, y));
  polygon(context, [...surface, [pixelsWide, pixelsHigh], [0, pixelsHigh]], colors.moon);
  line(context, surface, colors.rim, 0.07 * unit);
  line(context, [at(width * 0.4, pad), at(width * 0.6, pad)], "#ffffff", 0.12 * unit);
  for (const side of [0.4, 0.6]) flag(context, ...at(width * side, pad), 1.5 * unit, "#ffffff", "#ffc233");
  for (const each of flames) {
    const [x, y] = at(each.x + each.vx * (each.age + blend), each.y + each.vy * (each.age + blend));
    const left = Math.max(0, 1 - each.age / 16);
    circle(context, x, y, each.size * unit * (0.35 + 0.65 * left), `rgb(255 ${80 + 150 * left} 60 / ${left})`);
  }
  const point = (body, offset) => at(...placed(body, offset, blend));
  legs.forEach(({ body }, index) => {
    const strut = [point(lander, [index ? 0.4 : -0.4, -0.2]), point(body, [0, 0])];
    line(context, strut, colors.leg, 0.1 * unit);
    polygon(context, box(leg.width, leg.height).map((offset) => point(body, offset)), colors.leg);
  });
  polygon(context, hull.map((offset) => point(lander, offset)), colors.hull);
  circle(context, ...point(lander, [0, 0.2]), 0.16 * unit, colors.sky);
  const [x, y] = point(lander, [0, 0]);
  if (y < -0.4 * unit) { // the hull is above the view
    const middle = Math.min(Math.max(x, 0.6 * unit), pixelsWide - 0.6 * unit);
    const marker = [[-0.5, 0.9], [0, 0.2], [0.5, 0.9]].map(([across, down]) => [middle + across * unit, down * unit]);
    polygon(context, marker, colors.hull);
  }
  if (push) {
    for (const row of [-0.5, 0, 0.5]) arrow(context, x - 1.8 * unit * push, y + row * unit, unit, push, "#7cc4ff");
  }
}

function box(x, y) {
  return [[-x, -y], [x, -y], [x, y], [-x, y]];
}

/** Return where a point of a body is, between its last two states. */
function placed(body, [x, y], blend) {
  const late = (1 - blend) / stepsPerSecond; // seconds before the current state
  const { x: left, y: bottom } = body.getPosition();
  const { x: vx, y: vy } = body.getLinearVelocity();
  const angle = body.getAngle() - late * body.getAngularVelocity();
  const [sin, cos] = [Math.sin(angle), Math.cos(angle)];
  return [left - late * vx + x * cos - y * sin, bottom - late * vy + x * sin + y * cos];
}
