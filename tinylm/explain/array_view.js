// Arrays as a page shows them: the record of tinylm/explain/array_records.py becomes numbers, or a heat map.

const arrayView = (() => {
  const HOT = [216, 92, 32], COLD = [56, 120, 216]; // above and below 0; seen on white and on black

  function make(tag, properties, ...children) {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children.filter(child => child !== null));
    return element;
  }
  function number(x, digits = 4) {
    if (typeof x !== "number") return String(x);
    return x !== 0 && Math.abs(x) < 1e-4 ? x.toExponential(digits - 1) : String(Number(x.toPrecision(digits)));
  }
  const shape = s => "(" + s.join(", ") + ")";
  const values = v => Array.isArray(v) ? "[" + v.map(x => values(x)).join(", ") + "]" : number(v);

  function statistics(a) {
    return `${shape(a.shape)}, norm ${number(a.norm)}` + ("min" in a ? `, mean ${number(a.mean)}, from ${number(a.min)} to ${number(a.max)}` : "");
  }
  function line(a) {
    return a === null ? "none, counted as zeros" : statistics(a) + ("values" in a ? ` = ${values(a.values)}` : "");
  }
  // Returns an element with all about an array. what: in words, for those who cannot see the map; axes: names of rows and columns.
  function card(a, what, axes = ["row", "column"]) {
    const said = make("div", {className: "said soft"}, statistics(a));
    if ("values" in a) return make("div", {className: "array"}, a.shape.length ? said : null, make("pre", {}, values(a.values)));
    return make("div", {className: "array"}, said, ...heatMap(a.map, a.shape.filter(n => n !== 1).slice(0, -1), what, axes));
  }
  // before: the axes before the last one, laid out one below the other as rows
  function heatMap(map, before, what, axes) {
    const bytes = Uint8Array.from(atob(map.cells), c => c.charCodeAt(0));
    const size = Math.max(1, Math.min(8, Math.floor(320 / map.columns))); // a canvas pixel per cell would be too small to see
    const canvas = make("canvas", {width: map.columns, height: map.rows, tabIndex: 0});
    canvas.style.width = map.columns * size + "px";
    canvas.style.minHeight = Math.min(8, size * 2) + "px";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `heat map of ${what}: ${map.of[0]} by ${map.of[1]} elements, the largest ${number(map.largest)}`);
    const context = canvas.getContext("2d"), image = context.createImageData(map.columns, map.rows);
    bytes.forEach((byte, i) => {
      const level = byte - 128;
      image.data.set(byte === 0 ? [128, 128, 128, 255] : [...(level < 0 ? COLD : HOT), 2 * Math.abs(level)], 4 * i);
    });
    context.putImageData(image, 0, 0);
    const several = before.length > 1; // row 70 of 4 × 63 rows is row (1, 7)
    const named = (axis, i) => axis === 0 && several
      ? "(" + before.reduceRight(([left, found], n) => [Math.floor(left / n), [left % n, ...found]], [i, []])[1].join(", ") + ")" : String(i);
    const span = (axis, at) => {
      const first = at * map.block[axis], last = Math.min(first + map.block[axis], map.of[axis]) - 1;
      return last > first ? `${axes[axis]}s ${named(axis, first)} to ${named(axis, last)}` : `${axes[axis]} ${named(axis, first)}`;
    };
    const each = map.block[0] * map.block[1];
    const plural = axis => `${axis === 0 && several ? before.join(" × ") : map.of[axis]} ${axes[axis]}${map.of[axis] === 1 ? "" : "s"}`;
    const still = `${plural(0)} × ${plural(1)}` + (each > 1 ? `, ${map.block[0]} × ${map.block[1]} per cell` : "");
    const said = make("div", {className: "said soft cell"}, still);
    let at = [0, 0];
    const tell = (row, column) => {
      at = [Math.max(0, Math.min(map.rows - 1, row)), Math.max(0, Math.min(map.columns - 1, column))];
      const level = bytes[at[0] * map.columns + at[1]] - 128;
      const value = level === -128 ? "not finite" : "≈ " + number(Math.sign(level) * Math.abs(level / 127) ** map.power * map.largest, 2);
      said.textContent = `${span(0, at[0])}, ${span(1, at[1])}: ${value}`;
    };
    canvas.addEventListener("mousemove", event => {
      const box = canvas.getBoundingClientRect();
      tell(Math.floor((event.clientY - box.top) / box.height * map.rows), Math.floor((event.clientX - box.left) / box.width * map.columns));
    });
    canvas.addEventListener("keydown", event => {
      const step = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}[event.key];
      if (step === undefined) return;
      event.preventDefault();
      tell(at[0] + step[0], at[1] + step[1]);
    });
    for (const name of ["mouseleave", "blur"]) canvas.addEventListener(name, () => { said.textContent = still; });
    return [canvas, said];
  }
  return {make, number, shape, values, line, card};
})();
