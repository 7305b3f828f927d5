// Changes to the model: heads, MLPs and units switched off or scaled, and single weights.

const keyOf = edit => `${edit.name ?? edit.parameter} ${edit.index ?? ""}`;
const scaleOf = (name, index) => state.edits.find(edit => edit.name === name && edit.index === index)?.scale ?? 1;

function change(edit) {
  state.edits = state.edits.filter(old => keyOf(old) !== keyOf(edit));
  if (edit.scale !== 1) state.edits.push(edit);
  compute();
}
const toggle = (name, index) => change({name, index, scale: scaleOf(name, index) === 0 ? 1 : 0});

// What can be switched: [what it is called, activation, index].
function components() {
  const found = [];
  for (let i = 0; i < layerCount("h"); i++) {
    const heads = inside(`h.${i}.attn.head_out`);
    if (!has(heads)) continue;
    for (let h = 0; h < state.run.values[heads].shape[0]; h++) found.push([`block ${i}, head ${h}`, heads, h]);
    found.push([`block ${i}, MLP`, inside(`h.${i}.mlp.out`), undefined]);
  }
  for (const layer of recurrentLayers()) {
    const unit = chosenUnit(layer);
    found.push([`${layer}, unit ${unit}`, `${layer}.h`, unit], [`${layer}, all units`, `${layer}.h`, undefined]);
  }
  return found;
}

function drawSwitches() {
  const place = find("switches");
  place.hidden = !state.live;
  if (!state.live || find("scale")?.matches(":active")) return; // a slider that is being dragged stays
  const wide = matchMedia("(min-width: 62rem)").matches;
  const box = make(
    "details",
    {open: state.open.switches ?? wide},
    make("summary", {"data-key": "fold switches"}, make("h2", {}, "Change the model")),
  );
  box.addEventListener("toggle", () => {
    state.open.switches = box.open;
  });
  box.append(switchGrid(), editList(), scaleControl(), weightControl());
  place.replaceChildren(box);
}

// Heads and MLPs, one row per block: pressed is on.
function switchGrid() {
  const layers = layerCount("h");
  if (!layers) return make("p", {className: "soft"}, "Choose a unit in a picture below; here it can be scaled or switched off.");
  const grid = make(
    "div",
    {className: "switches", role: "group", "aria-label": "Heads and MLPs, on or off"},
    make("div", {className: "line soft"}, make("span", {}, ""), "heads"),
  );
  for (let i = 0; i < layers; i++) {
    const line = make("div", {className: "line"}, make("span", {}, `block ${i}`));
    for (const [title, name, index] of components().filter(([, name]) => name.startsWith(inside(`h.${i}.`)))) {
      const scale = scaleOf(name, index);
      line.append(
        make(
          "button",
          {
            type: "button",
            className: `switch${scale === 1 ? "" : scale === 0 ? " off" : " scaled"}`,
            "aria-pressed": scale !== 0,
            "aria-label": `${title}${scale === 0 ? ", off" : ""}`,
            "data-key": `switch ${name} ${index}`,
            "data-name": name,
            "data-index": index ?? "",
            onclick: () => toggle(name, index),
          },
          index === undefined ? "MLP" : String(index),
        ),
      );
    }
    grid.append(line);
  }
  return make(
    "div",
    {},
    make("p", {className: "soft"}, "A click switches a head or an MLP off: what it adds to the residual stream becomes zero."),
    grid,
  );
}

function scaleControl() {
  const all = components();
  const at = Math.max(
    0,
    all.findIndex(([, name, index]) => `${name} ${index ?? ""}` === state.component),
  );
  const [, name, index] = all[at];
  const list = make(
    "select",
    {
      id: "component",
      "data-key": "component",
      onchange: () => {
        const [, n, k] = all[list.selectedIndex];
        state.component = `${n} ${k ?? ""}`;
        drawSwitches();
        find("component").focus();
      },
    },
    all.map(([title], i) => make("option", {selected: i === at}, title)),
  );
  const scale = scaleOf(name, index);
  const scaled = () => soon(() => change({name, index, scale: Number(slide.value)}));
  const slide = make("input", {
    id: "scale",
    type: "range",
    min: -1,
    max: 3,
    step: 0.05,
    value: scale,
    "data-key": "scale",
    oninput: () => {
      state.component = `${name} ${index ?? ""}`;
      scaled();
      find("scale-now").textContent = digits(Number(slide.value), 3);
    },
    onchange: () => scaled(),
  });
  return make(
    "div",
    {className: "control"},
    make("h3", {}, "Scale a part"),
    make("label", {for: "component"}, "Part"),
    list,
    make("label", {for: "scale"}, "Factor ", make("output", {id: "scale-now", for: "scale"}, digits(scale, 3))),
    slide,
    make(
      "button",
      {
        type: "button",
        "data-key": "off",
        onclick: () => {
          state.component = `${name} ${index ?? ""}`;
          toggle(name, index);
        },
      },
      scale === 0 ? "Switch on" : "Switch off",
    ),
  );
}

// One weight, or a whole parameter, times a factor.
function weightControl() {
  const parameters = Object.entries(state.packed.parameters),
    chosen = state.parameter ?? parameters[0][0];
  const shape = state.packed.parameters[chosen].shape;
  const list = make(
    "select",
    {
      id: "parameter",
      "data-key": "parameter",
      onchange: () => {
        state.parameter = list.value;
        drawSwitches();
        find("parameter").focus();
      },
    },
    parameters.map(([name]) => make("option", {selected: name === chosen}, name)),
  );
  const place = make("input", {
    id: "index",
    type: "text",
    inputMode: "numeric",
    value: state.index ?? "",
    placeholder: shape.map(() => "0").join(", "),
    "data-key": "index",
    "aria-describedby": "index-help",
    onkeydown: event => event.key === "Enter" && apply(),
    oninput: () => {
      state.index = place.value;
    },
  });
  const factor = make("input", {
    id: "factor",
    type: "number",
    step: "any",
    value: state.factor ?? "0",
    "data-key": "factor",
    onkeydown: event => event.key === "Enter" && apply(),
    oninput: () => {
      state.factor = factor.value;
    },
  });
  const problem = make("p", {className: "problem", role: "alert", hidden: true});
  const apply = () => {
    const words = place.value.trim(),
      at = words === "" ? [] : words.split(/[\s,]+/).map(Number),
      scale = Number(factor.value);
    const wrong =
      !Number.isFinite(scale) || factor.value.trim() === ""
        ? `the factor is ${quoted(factor.value)}: expected a number`
        : at.length !== 0 && (at.length !== shape.length || at.some((i, axis) => !Number.isInteger(i) || i < 0 || i >= shape[axis]))
          ? `the place is ${quoted(words)}: expected ${shape.map(n => `0 to ${n - 1}`).join(", then ")}, or nothing for the whole parameter`
          : "";
    problem.hidden = !wrong;
    problem.textContent = wrong;
    if (!wrong) change({parameter: chosen, index: at.length ? at.reduce((sum, i, axis) => sum * shape[axis] + i, 0) : undefined, scale});
  };
  return make(
    "div",
    {className: "control"},
    make("h3", {}, "Scale a weight"),
    make("label", {for: "parameter"}, "Parameter"),
    list,
    make("label", {for: "index"}, "Place"),
    place,
    make("p", {id: "index-help", className: "soft"}, `of (${shape.join(", ")}); empty: all of it`),
    make("label", {for: "factor"}, "Factor"),
    factor,
    make("button", {type: "button", "data-key": "apply", onclick: apply}, "Scale"),
    problem,
  );
}

function editList() {
  if (!state.edits.length) return make("p", {className: "soft"}, "No part and no weight is changed: this is the model as it was trained.");
  const words = edit =>
    `${edit.name ?? edit.parameter}${edit.index === undefined ? "" : ` [${placeOf(edit)}]`} ${edit.scale === 0 ? "off" : `× ${digits(edit.scale, 3)}`}`;
  return make(
    "div",
    {className: "control"},
    make("h3", {}, "What is changed"),
    make(
      "ul",
      {className: "edits"},
      state.edits.map(edit =>
        make(
          "li",
          {},
          make("code", {}, words(edit)),
          " ",
          make(
            "button",
            {
              type: "button",
              "aria-label": `undo ${words(edit)}`,
              "data-key": `undo ${keyOf(edit)}`,
              onclick: () => change({...edit, scale: 1}),
            },
            "Undo",
          ),
        ),
      ),
    ),
    make("button", {type: "button", id: "reset", "data-key": "reset", onclick: reset}, "Reset everything"),
  );
}
function placeOf(edit) {
  if (edit.name) return edit.index;
  const at = [];
  let rest = edit.index;
  for (const size of [...state.packed.parameters[edit.parameter].shape].reverse()) {
    at.unshift(rest % size);
    rest = Math.floor(rest / size);
  }
  return at.join(", ");
}
function reset() {
  state.edits = [];
  setTemperature(1);
  compute();
}
