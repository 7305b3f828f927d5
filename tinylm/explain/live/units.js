// A recurrent model at one position: the gates and states of its layers over time, and one unit's formulas with its numbers.

// The layers and directions that the run has values of, such as rnn.0 and rnn.0.reverse.
function recurrentLayers() {
  return Object.keys(state.run.values)
    .filter(name => name.startsWith(`${state.prefix}rnn.`) && name.endsWith(".h"))
    .map(name => name.slice(0, -2));
}
const ORDER = ["input", "forget", "reset", "update", "candidate", "output", "c", "h"];
const GATES = ["input", "forget", "output", "reset", "update"]; // those between 0 and 1
const partsOf = layer => ORDER.filter(part => has(`${layer}.${part}`));

function recurrentSteps() {
  const t = state.position;
  return [
    fold("embed", "Embedding", null, () => [
      step("Token", [`x = E_{${state.ids[t]}}`, `the row of ${quoted(state.tokens[t])}`], [row("embed")]),
    ]),
    ...recurrentLayers().map(layer => fold(layer, layerTitle(layer), null, () => layerSteps(layer))),
    !state.live
      ? recordedEnd()
      : fold("end", state.language ? "Prediction" : "Decision", null, () =>
          state.language ? predictionSteps("W_{d} h + b") : decisionSteps(),
        ),
  ];
}
function layerTitle(layer) {
  const [number, reverse] = layer.slice(state.prefix.length).split(".").slice(1);
  return `Layer ${number}${reverse ? ", read from the end" : has(`${state.prefix}rnn.0.reverse.h`) ? ", read from the start" : ""}`;
}

// The units of a layer, the one that varies most over the text first.
function unitsByVariation(layer) {
  const {
    shape: [T, H],
    data,
  } = state.plain.values[`${layer}.h`];
  const varied = Float64Array.from({length: H}, (_, u) => {
    let sum = 0,
      squares = 0;
    for (let t = 0; t < T; t++) {
      const v = data[t * H + u];
      sum += v;
      squares += v * v;
    }
    return Math.sqrt(Math.max(0, squares / T - (sum / T) ** 2));
  });
  return {order: ranked(varied), varied};
}

const chosenUnit = layer => (state.unit[layer] ??= unitsByVariation(layer).order[0]);

const SHOWN = 48; // units in a picture, unless all are asked for

function layerSteps(layer) {
  const parts = partsOf(layer),
    {order, varied} = unitsByVariation(layer);
  const part = parts.includes(state.part[layer]) ? state.part[layer] : "h";
  const unit = chosenUnit(layer);
  const all = state.open[`${layer} all`] ?? false,
    units = all || order.length <= SHOWN ? order : order.slice(0, SHOWN);
  const {
      shape: [T, H],
      data,
    } = state.run.values[`${layer}.${part}`],
    gate = GATES.includes(part);
  const pick = (u, t) => {
    state.unit[layer] = u;
    state.component = `${layer}.h ${u}`;
    select(t);
  };
  const value = i => data[(i % T) * H + units[Math.floor(i / T)]];
  const said = i => {
    const t = i % T,
      u = units[Math.floor(i / T)];
    return (
      `${layer}.${part}[${t}, ${u}] = ${digits(data[t * H + u], 5)} at ${quoted(state.tokens[t])}` +
      (state.run === state.plain ? "" : `, unmodified ${digits(state.plain.values[`${layer}.${part}`].data[t * H + u], 5)}`)
    );
  };
  const picture = grid(
    `grid ${layer}`,
    `${layer}.${part}: ${units.length} units from top to bottom, the most varied first, over ${T} tokens`,
    {
      columns: T,
      rows: units.length,
      value,
      most: gate ? 1 : Math.max(1e-9, largest(data)),
      kind: gate ? "gate" : "signed",
      className: "map",
      text: said,
      choose: i => pick(units[Math.floor(i / T)], i % T),
    },
  );
  picture.style.setProperty("--rows", units.length);
  picture.append(make("span", {className: "here column-here", style: `left: ${(100 * state.position) / T}%; width: ${100 / T}%`}));
  const line = units.indexOf(unit);
  if (line >= 0)
    picture.append(
      make("span", {className: "here row-here", style: `top: ${(100 * line) / units.length}%; height: ${100 / units.length}%`}),
    );
  return [
    step(
      "Over the text",
      [
        "Tokens from left to right, units from top to bottom, the one that varies most first.",
        gate ? `${part}: from 0 (empty) to 1 (full).` : `${part}: warm above zero, cold below.`,
      ],
      [
        partPicker(layer, parts, part),
        picture,
        under(T),
        order.length > SHOWN
          ? make(
              "button",
              {
                type: "button",
                "data-key": `all ${layer}`,
                onclick: () => {
                  state.open[`${layer} all`] = !all;
                  draw();
                },
              },
              all ? `Only the ${SHOWN} most varied` : `All ${order.length} units`,
            )
          : null,
      ],
    ),
    step(
      `Unit ${unit}`,
      unitFormulas(layer, unit),
      [unitControl(layer, unit, H, order.indexOf(unit) + 1, varied[unit]), unitLife(layer, unit, parts, T)],
      "broad",
    ),
    step(
      "All units now",
      [`at position ${state.position}, ${quoted(state.tokens[state.position])}`],
      parts.map(name => strip(`${layer}.${name}`, [state.position], ["position"], GATES.includes(name) ? "gate" : "signed")),
    ),
  ];
}

// Which token each column is, as far as they can be read.
function under(T) {
  const every = Math.max(1, Math.ceil(T / (matchMedia("(min-width: 44.01rem)").matches ? 24 : 10)));
  return make(
    "div",
    {className: "under", style: `--columns: ${T}`, "aria-hidden": "true"},
    state.tokens.map((token, t) =>
      make(
        "span",
        {className: t === state.position ? "chosen" : ""},
        t === state.position || (t % every === 0 && 2 * Math.abs(t - state.position) >= every) ? visible(token).slice(0, 2) : "",
      ),
    ),
  );
}

function partPicker(layer, parts, part) {
  const list = make("div", {className: "parts", role: "radiogroup", "aria-label": `Gate or state of ${layer}`});
  const choose = name => {
    state.part[layer] = name;
    draw();
    document.querySelector(`[data-key="part ${layer} ${name}"]`).focus();
  };
  list.append(
    ...parts.map(name =>
      make(
        "button",
        {
          type: "button",
          role: "radio",
          "aria-checked": name === part,
          tabIndex: name === part ? 0 : -1,
          "data-key": `part ${layer} ${name}`,
          onclick: () => choose(name),
        },
        name,
      ),
    ),
  );
  list.addEventListener("keydown", event => {
    const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (!by) return;
    event.preventDefault();
    choose(parts[(parts.indexOf(part) + by + parts.length) % parts.length]);
  });
  return list;
}

function unitControl(layer, unit, H, place, varied) {
  const number = make("input", {
    type: "number",
    min: 0,
    max: H - 1,
    value: unit,
    id: `unit ${layer}`,
    "data-key": `unit ${layer}`,
    onchange: () => {
      const u = Number(number.value);
      if (Number.isInteger(u) && u >= 0 && u < H) {
        state.unit[layer] = u;
        state.component = `${layer}.h ${u}`;
        draw();
      } else number.value = unit;
    },
  });
  const off = scaleOf(`${layer}.h`, unit) === 0;
  return make(
    "p",
    {className: "unit-control"},
    make("label", {for: `unit ${layer}`}, "Unit "),
    number,
    state.live
      ? make(
          "button",
          {type: "button", "data-key": `unit-off ${layer}`, "aria-pressed": off, onclick: () => toggle(`${layer}.h`, unit)},
          off ? "Switch on" : "Switch off",
        )
      : null,
    make(
      "span",
      {className: "soft"},
      `the ${place === 1 ? "" : `${ordinal(place)} `}most varied of ${H}: standard deviation of h ${digits(varied, 3)}`,
    ),
  );
}
const ordinal = n => n + (n % 100 > 10 && n % 100 < 14 ? "th" : (["th", "st", "nd", "rd"][n % 10] ?? "th"));

// One unit over the text: a row per gate and state.
function unitLife(layer, unit, parts, T) {
  return make(
    "div",
    {className: "life"},
    parts.map(part => {
      const {
          shape: [, H],
          data,
        } = state.run.values[`${layer}.${part}`],
        gate = GATES.includes(part);
      const line = Float32Array.from({length: T}, (_, t) => data[t * H + unit]);
      const most = gate ? 1 : largest(line);
      const picture = grid(`life ${layer} ${part}`, `${layer}.${part} of unit ${unit} over ${T} tokens`, {
        columns: T,
        rows: 1,
        value: t => line[t],
        most,
        kind: gate ? "gate" : "signed",
        className: "line-map",
        text: t => `${layer}.${part}[${t}, ${unit}] = ${digits(line[t], 5)} at ${quoted(state.tokens[t])}`,
        choose: select,
      });
      picture.append(make("span", {className: "here column-here", style: `left: ${(100 * state.position) / T}%; width: ${100 / T}%`}));
      return [make("span", {className: "soft"}, part), picture, make("b", {className: "number"}, digits(line[state.position], 3))];
    }),
    make("span", {}),
    under(T),
    make("span", {}),
  );
}
