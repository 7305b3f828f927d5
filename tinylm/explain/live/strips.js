// Rows and grids of numbers as colours: --hot above zero, --cold below, the stronger the farther from zero. Gates, from 0 to 1, have
// the accent's colour; so have weights of attention, whose strength is the square root, so that small ones show.

// One row of a run's array: vector(run, "h.0.attn.q", 1, 5) is what head 1 asks for at position 5.
function vector(run, name, ...at) {
  const {shape, data} = run.values[name];
  let begin = 0,
    size = data.length;
  for (const [axis, i] of at.entries()) {
    size /= shape[axis];
    begin += i * size;
  }
  return data.subarray(begin, begin + size);
}
const has = name => name in state.run.values;

function paint(canvas, columns, rows, value, most, kind = "signed") {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"),
    image = context.createImageData(columns, rows);
  const hot = colour(kind === "signed" ? "--hot" : "--accent"),
    cold = colour("--cold");
  for (let i = 0; i < columns * rows; i++) {
    const v = value(i);
    if (v === null || Number.isNaN(v)) continue;
    const [r, g, b] = v < 0 ? cold : hot,
      part = most ? Math.min(1, Math.abs(v) / most) : 0;
    image.data.set([r, g, b, Math.round(255 * (kind === "weight" ? Math.sqrt(part) : part))], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

// A frame around a canvas, with a mark that can be put on a cell.
function cells(canvas, columns, rows, className) {
  const mark = make("span", {className: "mark", hidden: true});
  const frame = make("div", {className: `cells ${className}`}, canvas, mark);
  frame.put = i => {
    mark.hidden = i < 0;
    const column = i % columns,
      row = Math.floor(i / columns);
    mark.style.cssText = `left: ${(100 * column) / columns}%; top: ${(100 * row) / rows}%; width: ${100 / columns}%; height: ${100 / rows}%`;
  };
  frame.at = event => {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns),
      row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    return column < 0 || row < 0 || column >= columns || row >= rows ? -1 : row * columns + column;
  };
  return frame;
}

const WIDEST = 64; // cells per row of a strip

// A strip: the numbers of one activation at one place. at: the indices in front; axes: what they are called;
// kind: as in `paint`; more(i): what is said of a number besides.
function strip(name, at = [], axes = [], kind = "signed", more = () => "") {
  const now = vector(state.run, name, ...at),
    before = state.run === state.plain ? null : vector(state.plain, name, ...at);
  const columns = Math.min(WIDEST, now.length),
    rows = Math.ceil(now.length / columns),
    most = largest(now);
  const canvas = make("canvas", {className: "numbers"});
  paint(canvas, columns, rows, i => (i < now.length ? now[i] : null), kind === "gate" ? 1 : most, kind);
  const frame = cells(canvas, columns, rows, "strip");
  frame.style.setProperty("--rows", rows);
  frame.style.setProperty("--columns", columns);
  const where = axes.map((axis, i) => `${axis} ${at[i]}`).join(", ");
  const said = i =>
    `${name}[${[...at, i].join(", ")}] = ${digits(now[i], 5)}` + (before === null ? "" : `, unmodified ${digits(before[i], 5)}`) + more(i);
  readable(
    frame,
    `strip ${name}`,
    `${[name, ...(where ? [where] : [])].join(", ")}: ${now.length} numbers up to ${digits(most, 3)} in size`,
    {
      count: now.length,
      columns,
      at: event => {
        const i = frame.at(event);
        return i < now.length ? i : -1;
      },
      text: said,
      mark: frame.put,
    },
  );
  const changed = before === null ? 0 : norm(now.map((v, i) => v - before[i]));
  const size =
    kind === "gate"
      ? `mean ${digits(mean(now), 3)}, from ${digits(Math.min(...now), 3)} to ${digits(Math.max(...now), 3)}`
      : `norm ${digits(norm(now), 3)}, to ±${digits(most, 3)}`;
  return make(
    "div",
    {className: "activation"},
    make(
      "div",
      {className: "caption"},
      make("code", {}, name),
      make("span", {}, where ? `${where} · ` : "", `${now.length} numbers`),
      make(
        "span",
        {className: "size"},
        size,
        changed > 1e-6 ? `, changed by ${digits(changed, 3)}` : "",
      ),
    ),
    frame,
  );
}

// A grid of any numbers, with the rows and columns that `text` explains.
function grid(key, label, {columns, rows, value, most, kind = "signed", className = "grid", text, choose}) {
  const canvas = make("canvas", {className: "numbers"});
  paint(canvas, columns, rows, value, most, kind);
  const frame = cells(canvas, columns, rows, className);
  return readable(frame, key, label, {count: columns * rows, columns, at: frame.at, text, mark: frame.put, choose});
}

// Columns over tokens: one bar each, and the token below, shaded. value(i) from 0 to 1, or from -1 to 1.
function bars(key, label, values, {most = largest(values), text, choose, chosen, tokens = state.tokens, className = ""}) {
  const list = make("div", {className: `bars ${className}`});
  const columns = Array.from(values, (v, i) => {
    const part = most ? Math.min(1, Math.abs(v) / most) : 0;
    return make(
      "span",
      {className: `column${i === chosen ? " chosen" : ""}${v < 0 ? " below" : v === 0 ? " zero" : ""}`, style: `--part: ${part.toFixed(4)}`},
      make("span", {className: "tall"}),
      make("span", {className: "letter"}, visible(tokens[i])),
    );
  });
  list.append(...columns);
  const at = event => columns.indexOf(event.target.closest(".column"));
  const mark = i => columns.forEach((column, k) => column.classList.toggle("marked", k === i));
  return readable(list, key, label, {count: columns.length, columns: 1, at, text, mark, choose});
}
