// Small parts of the page: elements, numbers and tokens as text, colours, and the line that reads numbers out.

function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "role" || name === "for" || name.includes("-")) element.setAttribute(name, String(value));
    else if (name === "style") element.style.cssText = value;
    else element[name] = value;
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined));
  return element;
}
const find = id => document.getElementById(id);

// Numbers: a true minus sign, and enough digits to compare with other programs.
const minus = text => text.replace("-", "−");
function digits(x, count = 4) {
  if (!Number.isFinite(x)) return String(x);
  if (x !== 0 && (Math.abs(x) < 1e-4 || Math.abs(x) >= 1e6)) return minus(x.toExponential(count - 1));
  const places = x === 0 ? 0 : Math.max(0, count - 1 - Math.floor(Math.log10(Math.abs(x))));
  return minus(x.toFixed(Math.min(places, 8)));
}
const signed = (x, count = 3) => (x > 0 ? "+" : "") + digits(x, count);
const percent = p => (p >= 0.0995 ? (100 * p).toFixed(0) + " %" : p >= 0.00095 ? (100 * p).toFixed(1) + " %" : "< 0.1 %");
const times = n => n.toLocaleString("en");
const plural = (n, word) => `${times(n)} ${word}${n === 1 ? "" : "s"}`;

// Tokens: spaces and line breaks can be seen.
const visible = text => (text === "" ? "∅" : unspaced(text).replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥"));
const unspaced = text => (state.kind !== "classifier" ? text : text.replace(/^ (?=.)/, "")); // each word of a classifier has a space before it
const spelt = id => tokenText(state.tokenizer, id) ?? `<${id}>`; // a model may have more outputs than its tokenizer has tokens
const quoted = text => `‘${visible(text)}’`;

// A formula: words with _{…} and ^{…} for indices.
function formula(text) {
  const parts = text.split(/([_^]\{[^}]*\})/).filter(part => part);
  return make(
    "div",
    {className: "formula"},
    parts.map(part => (/^[_^]\{/.test(part) ? make(part[0] === "_" ? "sub" : "sup", {}, part.slice(2, -1)) : part)),
  );
}

// Colours of the shared style, as red, green, blue.
let palette = {};
function colour(name) {
  if (!(name in palette)) {
    const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim().slice(1);
    const long = text.length === 3 ? [...text].map(c => c + c).join("") : text;
    palette[name] = [0, 2, 4].map(i => parseInt(long.slice(i, i + 2), 16));
  }
  return palette[name];
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  palette = {};
  draw();
});

// Mathematics on short rows of numbers.
function probabilities(logits, temperature) {
  let top = -Infinity,
    sum = 0;
  for (const z of logits) top = Math.max(top, z);
  const p = Float64Array.from(logits, z => Math.exp((z - top) / temperature));
  for (const x of p) sum += x;
  return p.map(x => x / sum);
}
const norm = x => Math.sqrt(x.reduce((sum, v) => sum + v * v, 0));
const mean = x => x.reduce((sum, v) => sum + v, 0) / Math.max(1, x.length);
const spread = x => {
  const m = mean(x);
  return Math.sqrt(x.reduce((sum, v) => sum + (v - m) ** 2, 0) / Math.max(1, x.length));
};
const largest = x => x.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
const ranked = x => Array.from(x, (_, i) => i).sort((a, b) => x[b] - x[a]);
const rankOf = (x, i) => x.reduce((count, v) => count + (v > x[i] ? 1 : 0), 1);

// The line at the bottom of the window: the number that the pointer or the arrow keys are on.
function say(text) {
  find("readout").textContent = text;
}

// Lets a person go through the numbers of an element: with the pointer, by touch, and with the arrow keys.
//   count: how many; columns: how many per row; at(event): which one is under the pointer, or -1;
//   text(i): what is said; mark(i): shows which one, -1 for none; choose(i): optional, a click or Enter.
function readable(element, key, label, {count, columns, at, text, mark, choose}) {
  let now = -1;
  const go = i => {
    now = Math.max(0, Math.min(count - 1, i));
    mark(now);
    const words = text(now);
    say(words);
    element.setAttribute("aria-valuenow", now);
    element.setAttribute("aria-valuetext", words);
  };
  const attributes = {
    role: "slider",
    tabindex: 0,
    "aria-label": label,
    "aria-valuemin": 0,
    "aria-valuemax": count - 1,
    "aria-valuenow": 0,
    "aria-valuetext": "arrow keys read the numbers",
    "data-key": key,
  };
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.addEventListener("pointermove", event => {
    const i = at(event);
    if (i >= 0) go(i);
  });
  element.addEventListener("pointerleave", () => {
    if (element !== document.activeElement) {
      mark(-1);
      say("");
    }
  });
  element.addEventListener("click", event => {
    const i = at(event);
    if (i >= 0) {
      go(i);
      choose?.(i);
    }
  });
  element.addEventListener("focus", () => {
    if (now < 0 && element.matches(":focus-visible")) go(Number(element.dataset.now ?? 0));
  });
  element.addEventListener("blur", () => {
    mark(-1);
    now = -1;
  });
  element.addEventListener("keydown", event => {
    const steps = {
      ArrowRight: 1,
      ArrowLeft: -1,
      ArrowDown: columns,
      ArrowUp: -columns,
      Home: -count,
      End: count,
      PageDown: 8 * columns,
      PageUp: -8 * columns,
    };
    if (event.key in steps) go(now + steps[event.key]);
    else if (choose && (event.key === "Enter" || event.key === " ")) choose(Math.max(0, now));
    else return;
    element.dataset.now = now;
    event.preventDefault();
  });
  return element;
}
