// Makes elements. Whatever is shown goes in as text: nothing that a run says is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element. Functions are listeners, other values that are not text are properties; null is left out. */
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

/** A piece of SVG; every attribute is text. */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Set an element's text, if it is another: what does not change is not laid out again. */
export function text(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/**
 * Make ``parent`` have one child per item, in order, keeping those that are there.
 * ``make(item)`` gives a new child, ``update(child, item)`` brings any up to date.
 */
export function keep(parent, items, key, make, update) {
  const there = new Map([...parent.children].map((child) => [child.keptAs, child]));
  let before = parent.firstElementChild;
  for (const item of items) {
    let child = there.get(key(item));
    there.delete(key(item));
    if (child === undefined) {
      child = make(item);
      child.keptAs = key(item);
    }
    if (child === before) before = before.nextElementSibling;
    else parent.insertBefore(child, before);
    update(child, item);
  }
  for (const child of there.values()) child.remove();
}

/** Call ``action`` once calls have stopped for ``milliseconds``. */
export function settled(action, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, milliseconds);
  };
}

/** Say something to people who hear the page. */
export function announce(words) {
  text(document.getElementById("announce"), words);
}
