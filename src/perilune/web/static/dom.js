// Create elements. All content is set as text: nothing from a run is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/**
 * Create an element. In ``attributes``, functions become listeners, strings become attributes, other values become
 * properties, and null is skipped.
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (typeof value === "string") element.setAttribute(name, value);
    else if (value !== null && value !== undefined) element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Create an SVG element. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/**
 * Call ``action``, which fills ``element``. If it fails, show the error in this element only. ``keep`` then makes a new
 * element.
 */
export function confined(element, action) {
  try {
    action();
  } catch (error) {
    console.error(error);
    element.itemKey = null;
    element.replaceChildren(el("span", { class: "broken", title: "Please report this error." }, String(error)));
  }
}

/** Set the text of an element if it differs, to avoid an unnecessary layout. */
export function text(element, content) {
  if (element.textContent !== content) element.textContent = content;
}

/**
 * Give ``parent`` one child per item, in order, and reuse existing children. ``make(item)`` creates a child, and
 * ``update(child, item)`` updates a new or existing child.
 */
export function keep(parent, items, key, make, update) {
  const existing = new Map([...parent.children].map((child) => [child.itemKey, child]));
  let before = parent.firstElementChild;
  for (const item of items) {
    let child = existing.get(key(item));
    existing.delete(key(item));
    if (child === undefined) {
      child = make(item);
      child.itemKey = key(item);
    }
    if (child === before) before = before.nextElementSibling;
    else parent.insertBefore(child, before);
    update(child, item);
  }
  for (const child of existing.values()) child.remove();
}

/** Return a function that calls ``action`` after ``milliseconds`` without another call. */
export function debounced(action, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
}

/** Announce a message to screen readers. */
export function announce(message) {
  text(document.getElementById("announce"), message);
}
