// Shapes that several environments draw. Coordinates are pixels of the page.

export function polygon(context, points, fill) {
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  context.closePath();
  context.fillStyle = fill;
  context.fill();
}

export function line(context, points, color, width, dash = []) {
  context.beginPath();
  points.forEach(([x, y]) => context.lineTo(x, y));
  context.strokeStyle = color;
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.setLineDash(dash);
  context.stroke();
  context.setLineDash([]);
}

export function circle(context, x, y, radius, fill) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = fill;
  context.fill();
}

export function flag(context, x, y, size, pole, fill) {
  line(context, [[x, y], [x, y - size]], pole, Math.max(1.5, size / 24));
  polygon(context, [[x, y - size], [x + 0.5 * size, y - 0.86 * size], [x, y - 0.72 * size]], fill);
}

/** An arrow that shows a push: to the right if the direction is 1, to the left if it is -1. */
export function arrow(context, x, y, size, direction, color) {
  const tip = x + 0.5 * size * direction;
  const back = tip - 0.35 * size * direction;
  line(context, [[x - 0.5 * size * direction, y], [tip, y]], color, size / 12);
  line(context, [[back, y - 0.25 * size], [tip, y], [back, y + 0.25 * size]], color, size / 12);
}
