// The live page: what is chosen, the computation, and drawing it all again.

const record = JSON.parse(find("data").textContent);
const state = {
  live: record.model !== null,
  kind: record.labels !== null ? "classifier" : record.run !== null && record.run.ids === undefined ? "translator" : "language",
  packed: record.model,
  model: null,
  tokenizer: record.tokenizer,
  language: true,
  labels: record.labels,
  ids: [],
  tokens: [],
  run: null,
  plain: null,
  losses: [],
  plainLosses: [],
  adds: null,
  edits: [],
  temperature: 1,
  position: 0,
  head: {},
  unit: {},
  part: {},
  open: {},
  component: "",
  prefix: "",
  members: [""],
  sources: null,
  vocabulary: 0,
};
state.language = state.kind === "language";
const isChanged = () => state.run !== state.plain || state.temperature !== 1;

// {kind, config} of the model, or of the member that is shown.
const shownModel = () =>
  state.model === null ? {kind: "", config: {}} : (state.model.config.members?.[state.members.indexOf(state.prefix)] ?? state.model);

// Computes the text: once as trained, and once as changed.
function compute() {
  const start = performance.now();
  if (!state.live) recordedTokens();
  else if (!computed()) return;
  // At first the last position that has a right next token.
  state.position = Math.min(state.position, Math.max(0, state.tokens.length - (state.position === Infinity && state.language ? 2 : 1)));
  draw();
  document.body.dataset.recomputed = (performance.now() - start).toFixed(1);
}
// Returns whether the text could be computed.
function computed() {
  let ids;
  try {
    ids = encode(state.tokenizer, find("text").value);
    if (ids.length === 0) throw new Error("the text is empty");
    trouble("");
  } catch (error) {
    trouble(error.message);
    return false;
  }
  const longest = state.model.config.block_size ?? 500;
  const lost = state.tokenizer.kind === "word" ? ids.filter(id => id === 0).length : 0;
  note(
    [
      ids.length > longest ? `The page reads ${longest} tokens: of these ${times(ids.length)} it shows the last ${longest}.` : "",
      ids.length === state.tokenizer.longest ? `The model reads the first ${ids.length} words.` : "",
      lost ? `${plural(lost, "word")} not in the vocabulary: read as ${spelt(0)}.` : "",
    ]
      .filter(words => words)
      .join(" "),
  );
  ids = ids.slice(-longest);
  const same = state.plain !== null && ids.join() === state.ids.join();
  state.ids = ids;
  state.tokens = state.ids.map(spelt);
  if (!same) state.plain = forward(state.model, state.ids);
  state.run = state.edits.length ? forward(state.model, state.ids, state.edits) : state.plain;
  measure();
  return true;
}

// The losses of both runs.
function measure() {
  state.adds = null;
  if (!state.language) return;
  const of = (run, temperature) => state.ids.slice(1).map((id, t) => lossAt(vector(run, "logits", t), id, temperature));
  state.losses = of(state.run, state.temperature);
  state.plainLosses = of(state.plain, 1);
}
function lossAt(logits, id, temperature) {
  let top = -Infinity,
    sum = 0;
  for (const z of logits) top = Math.max(top, z);
  for (const z of logits) sum += Math.exp((z - top) / temperature);
  return Math.log(sum) - (logits[id] - top) / temperature;
}

// Draws everything; what has the focus keeps it.
function draw() {
  if (state.tokens.length === 0) return;
  const key = document.activeElement?.dataset?.key,
    place = document.activeElement?.dataset?.now;
  drawTokens();
  drawSentence();
  drawSwitches();
  find("steps").replaceChildren(
    heading(),
    make("p", {className: "key"}, hint()),
    ...(memberPicker() ?? []),
    ...(recurrentLayers().length ? recurrentSteps() : transformerSteps()).filter(part => part),
  );
  const again = key === undefined ? null : [...document.querySelectorAll("[data-key]")].find(element => element.dataset.key === key);
  if (again && again !== document.activeElement) {
    if (place !== undefined) again.dataset.now = place;
    again.focus({preventScroll: true});
  }
}
function hint() {
  const recurrent = recurrentLayers().length > 0;
  return [
    state.live ? "Each strip is an array: warm above zero, cold below, the stronger the closer to its largest number." : "",
    state.live && recurrent ? "Gates have one colour, from 0 to 1." : "",
    state.live ? "Point at a cell, or reach the strip with Tab and use the arrow keys: the line at the bottom reads the number." : "",
    state.language && !recurrent
      ? record.run?.post_norm
        ? "Lens: what the output layer would predict from the stream as it is after this layer."
        : "Lens: what the model would predict if the layers after this one added nothing."
      : "",
  ]
    .filter(words => words)
    .join(" ");
}
function heading() {
  const t = state.position,
    read = state.tokens
      .slice(Math.max(0, t - 30), t + 1)
      .join("")
      .replaceAll("\n", "↵");
  return make(
    "h2",
    {id: "where"},
    `Position ${t}, ${quoted(state.tokens[t])}`,
    make("span", {className: "soft"}, state.language ? ` The model has read “${t > 30 ? "…" : ""}${read}”` : ""),
  );
}
function memberPicker() {
  if (state.members.length === 1 || record.run?.adds) return null;
  const list = make(
    "select",
    {
      id: "member",
      "data-key": "member",
      onchange: () => {
        state.prefix = list.value;
        compute();
      },
    },
    state.members.map((prefix, i) =>
      make("option", {value: prefix, selected: prefix === state.prefix}, state.live ? `member ${i}` : record.run.parts[i].title),
    ),
  );
  const words = state.kind === "translator" ? "Below is " : `The model is the mean of ${state.members.length} members; below is `;
  return [make("p", {}, make("label", {for: "member"}, words), list, ".")];
}
function select(t) {
  state.position = t;
  draw();
}
function trouble(text) {
  find("problem").hidden = text === "";
  find("problem").textContent = text === "" ? "" : `${text[0].toUpperCase()}${text.slice(1)}. Below is the text before this.`;
}
function note(text) {
  find("note").hidden = text === "";
  find("note").textContent = text;
}

// Does it once the typing or sliding has paused.
let waiting = 0;
function soon(action) {
  clearTimeout(waiting);
  waiting = setTimeout(action, 120);
}

function setTemperature(value) {
  state.temperature = value;
  find("temperature").value = Math.log10(value);
  find("temperature").setAttribute("aria-valuetext", value.toFixed(2));
  find("warmth").textContent = value.toFixed(2);
}
function begin() {
  const start = performance.now();
  find("live").hidden = false;
  find("about").textContent = record.about;
  find("text").value = record.text;
  if (state.live) {
    state.model = loadModel(record.model);
    if (state.model.config.members) state.members = state.model.config.members.map((_, i) => `members.${i}.`);
    state.vocabulary = state.model.config.vocab_size;
    find("rounding").textContent = record.rounding;
  } else loadRecorded();
  state.prefix = state.members[0];
  find("text").addEventListener("input", () => soon(compute));
  find("text").addEventListener("change", compute);
  find("temperature").addEventListener("input", () => {
    setTemperature(10 ** Number(find("temperature").value));
    soon(() => {
      measure();
      draw();
    });
  });
  find("continue").hidden = !state.live || !state.language;
  find("continue").addEventListener("click", continued);
  tabs();
  new ResizeObserver(() => document.documentElement.style.setProperty("--ribbon", `${find("ribbon").offsetHeight}px`)).observe(
    find("ribbon"),
  );
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("#forward details:not([open])")];
    for (const each of closed) {
      each.open = true;
      each.dispatchEvent(new Event("toggle")); // the browser's own comes after it has printed
    }
  });
  addEventListener("afterprint", () => closed.forEach(each => (each.open = false)));
  state.position = Infinity;
  compute();
  document.body.dataset.ready = (performance.now() - start).toFixed(1);
}

// Numbers between 0 and 1, the same ones whenever the page is opened (Marsaglia 2003, "Xorshift RNGs").
let seed = 2463534242;
function random() {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) / 2 ** 32;
}

// Draws the next token at the temperature, and adds it to the text.
function continued() {
  const p = probabilities(vector(state.run, "logits", state.tokens.length - 1), state.temperature);
  if (state.tokenizer.kind === "word") p[0] = 0; // what the vocabulary lacks cannot be written
  let left = random() * p.reduce((sum, x) => sum + x, 0),
    id = 0;
  while (id < p.length - 1 && (left -= p[id]) > 0) id++;
  find("text").value += spelt(id);
  state.position = state.tokens.length;
  compute();
}

function tabs() {
  const both = [find("forward-tab"), find("backward-tab")];
  const show = tab => {
    for (const one of both) {
      one.setAttribute("aria-selected", one === tab);
      one.tabIndex = one === tab ? 0 : -1;
      find(one.getAttribute("aria-controls")).hidden = one !== tab;
    }
    if (tab === both[1] && !find("backward").hasChildNodes()) {
      find("backward").append(
        make(
          "p",
          {},
          `The backward pass of the text that this page was made with, as recorded: “${record.text}”. What is typed or changed in the other tab does not change it.`,
        ),
        make("div", {id: "pass"}),
      );
      drawBackward(find("pass"), record.backward);
    }
  };
  for (const tab of both) {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", event => {
      if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
      const other = both.find(one => one !== tab);
      show(other);
      other.focus();
    });
  }
  show(both[/^#(step|leaf)-/.test(location.hash) ? 1 : 0]);
}
begin();
