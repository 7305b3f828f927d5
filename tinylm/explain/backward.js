// The backward pass: drawBackward(element, record) fills the element with the record of tinylm.explain.backward_record.

const drawBackward = (() => {
  const {make, number, shape, values, line, card} = arrayView;
  const SHOWN = 32; // about as many rows are open at first
  const FLOW = "From the top down: each op gets the gradient of its output and hands one on to each argument. A row opens with a click.";
  const MAPS = "of its array. The strength is the square root of the value, and a cell that stands for several elements shows the one furthest from 0; " +
    "in an array without negative elements the strength is the value itself, and a cell shows the mean. Point at a cell, or use the arrow keys, for its value.";

  return function (element, record) {
    const rows = new Map(); // the row of each step, by number
    const groups = [];
    const graph = make("div", {className: "graph"});
    const edges = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    edges.setAttribute("class", "edges");
    edges.setAttribute("role", "img");
    edges.setAttribute("aria-label", "the graph: gradients flow along the lines, downwards");
    graph.append(edges);
    const array = index => index === null ? null : record.arrays[index];

    // The rows: a button that opens what is below it.

    function toggle(button, below, fill) {
      button.setAttribute("aria-expanded", "false");
      below.hidden = true;
      button.open = wanted => {
        if (wanted && fill && !below.firstChild) fill();
        below.hidden = !wanted;
        button.setAttribute("aria-expanded", String(wanted));
      };
      button.addEventListener("click", () => { button.open(below.hidden); draw(); });
    }
    function stepRow(n) {
      const step = record.steps[n - 1];
      const norms = step.rows.slice(0, step.outputs).map(({gradient}) => gradient === null ? "–" : number(array(gradient).norm)).join(", ");
      const row = make("button", {className: "row", type: "button"},
        make("span", {className: "number"}, String(n)), make("span", {className: "op"}, step.op),
        make("span", {className: "soft"}, step.module), make("span", {className: "soft"}, step.where.split("/").pop()),
        make("span", {className: "soft last"}, "norm " + norms));
      rows.set(n, row);
      const detail = make("div", {className: "detail"});
      toggle(row, detail, () => detail.append(...details(step)));
      return make("article", {id: "step-" + n}, row, detail);
    }
    function details(step) {
      const given = step.rows.filter(isGiven), absent = step.rows.filter(row => !isGiven(row));
      return [
        make("div", {}, "made at ", make("code", {}, step.where)), make("pre", {}, step.code),
        make("h3", {}, "Values beside gradients"), pairs(given.map(row => ({...row, more: row.to ? target(row) : []}))),
        ...[["not used: ", true], ["not given: ", false]].map(([words, made]) => {
          const names = absent.filter(({name}) => name.startsWith("output") === made).map(({name}) => name);
          return names.length ? make("div", {className: "soft"}, words + names.join(", ")) : "";
        }),
        make("h3", {}, "What it computes"), make("pre", {}, step.formula || "(the op has no docstring)"),
        ...("times" in step ? overTime(step) : []),
      ];
    }
    const isGiven = row => row.value !== null || row.gradient !== null || "number" in row || row.to !== undefined;
    const none = words => make("div", {className: "array soft"}, words);
    function pairs(list, axes) {
      const head = ["", "value", "gradient"].map((text, i) => make("div", {className: i ? "head" : "head corner"}, text));
      return make("div", {className: "pairs"}, ...head, ...list.flatMap(({name, value, number: plain, gradient, more = [], to}) => [
        make("div", {className: "name"}, name),
        value !== null ? card(array(value), "the value of " + name, axes) : none(plain === undefined ? (to ? "" : "–") : String(plain)),
        gradient === null ? none(name.startsWith("output") ? "none, counted as zeros" : "") : cardOf(array(gradient), name, axes, more),
      ]));
    }
    function cardOf(gradient, name, axes, more) {
      const made = card(gradient, "the gradient of " + name, axes);
      made.append(...more);
      return made;
    }
    function target({to, count, total}) {
      const link = to.step !== null ? make("a", {href: "#step-" + to.step}, `step ${to.step}, ${record.steps[to.step - 1].op}`)
        : make("a", {href: "#leaf-" + to.leaf}, record.leaves[to.leaf].name);
      const sum = total === null ? "" : `. It is contribution ${count}; with the earlier ones: ${line(array(total))}`;
      return [make("div", {}, "to ", link, sum)];
    }

    // A recurrent op, over time.

    function overTime({times, op}) {
      const reach = times.columns.find(([name]) => name === "|d h|")[1], most = Math.max(...reach, 1e-300);
      const bars = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      bars.setAttribute("class", "reach");
      bars.setAttribute("viewBox", `0 0 ${reach.length} 1`);
      bars.setAttribute("preserveAspectRatio", "none");
      bars.setAttribute("role", "img");
      bars.setAttribute("aria-label", "the norm of the gradient of h at each time step");
      reach.forEach((value, t) => svg("rect", {x: t + .1, y: 1 - value / most, width: .8, height: value / most}, bars));
      const table = make("table", {className: "times number"},
        make("tr", {}, ...["t", ...times.columns.map(([name]) => name)].map(name => make("th", {}, name))),
        ...times.order.map(t => make("tr", {}, make("td", {}, String(t)), ...times.columns.map(([, column]) => make("td", {}, number(column[t], 3))))));
      return [
        make("h3", {}, "Time steps"),
        make("div", {className: "said"}, `The norm of the gradient of h at each of the ${reach.length} time steps of this ${op}, from left to right; the longest bar is ${number(most)}.`),
        bars, pairs(times.maps, ["unit", "time step"]),
        make("details", {}, make("summary", {}, "in numbers: norms of states, means of gates, norms of gradients"), make("div", {className: "wide", tabIndex: 0}, table)),
      ];
    }

    // Groups: the steps of one module.

    function groupRow(item) {
      const inside = make("div", {className: "items"}, ...item.items.map(tree));
      const count = inside.querySelectorAll("article").length;
      const row = make("button", {className: "row", type: "button"}, make("span", {className: "op"}, item.path), make("span", {className: "soft"}, count + " steps"));
      toggle(row, inside);
      groups.push({row, inside});
      return make("section", {className: "group"}, row, inside);
    }
    const tree = item => typeof item === "number" ? stepRow(item) : groupRow(item);

    // The lines, beside whichever rows are visible.

    function visible(row) {
      for (let at = row.parentElement; at !== graph; at = at.parentElement)
        if (at.hidden) row = at.previousElementSibling;
      return row;
    }
    function svg(tag, attributes, parent = edges) {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
      parent.append(made);
    }
    const isOpenGroup = row => row.parentElement.className === "group" && row.getAttribute("aria-expanded") === "true";
    function draw() {
      edges.replaceChildren();
      const shown = [...graph.querySelectorAll(".row")].filter(row => row.offsetParent !== null && !isOpenGroup(row));
      const top = graph.getBoundingClientRect().top, width = edges.clientWidth, x = width - 12;
      const at = new Map(shown.map((row, i) => { const box = row.getBoundingClientRect(); return [row, {i, y: box.top - top + box.height / 2}]; }));
      const drawn = new Set();
      if (shown.length) record.steps.forEach((step, k) => {
        for (const {to} of step.rows) {
          if (!to || to.step === null) continue;
          const [from, end] = [visible(rows.get(k + 1)), visible(rows.get(to.step))].map(row => at.get(row));
          const key = from.i + " " + end.i;
          if (from.i === end.i || drawn.has(key)) continue;
          drawn.add(key);
          const far = end.i - from.i, bulge = far === 1 ? 0 : Math.min(1.3 * (x - 4), 14 + 12 * Math.log2(far));
          svg("path", {d: `M ${x} ${from.y} C ${x - bulge} ${from.y}, ${x - bulge} ${end.y}, ${x} ${end.y}`, "data-from": from.i, "data-to": end.i});
        }
      });
      for (const [row, {i, y}] of at) {
        const group = row.parentElement.className === "group";
        svg(group ? "rect" : "circle", group ? {class: "node", x: x - 6, y: y - 6, width: 12, height: 12, rx: 2} : {class: "node", cx: x, cy: y, r: 5});
        row.onmouseenter = row.onfocus = () => brighten(i);
        row.onmouseleave = row.onblur = () => brighten(-1);
      }
    }
    function brighten(i) {
      for (const path of edges.querySelectorAll("path"))
        path.classList.toggle("bright", path.dataset.from === String(i) || path.dataset.to === String(i));
    }

    // The leaves, the buttons, and the address.

    const leaves = make("div", {}, ...record.leaves.map((leaf, i) => {
      const gradient = array(leaf.gradient);
      const row = make("button", {className: "row", type: "button"}, make("span", {className: "op"}, leaf.name),
        make("span", {className: "soft"}, shape(gradient.shape)), make("span", {className: "soft last"}, "norm " + number(gradient.norm)));
      const detail = make("div", {className: "detail"});
      toggle(row, detail, () => detail.append(pairs([leaf]), make("h3", {}, "The gradient is the sum of"), make("ul", {}, ...leaf.parts.map(part => make("li", {},
        make("a", {href: "#step-" + part.step}, `step ${part.step}, ${record.steps[part.step - 1].op}`),
        `, as its ${part.argument}: norm ${number(part.norm)}, cosine with the sum ${part.cosine.toFixed ? part.cosine.toFixed(3) : part.cosine}`)))));
      return make("article", {id: "leaf-" + i, className: "leaf"}, row, detail);
    }));
    function openAll(wanted) {
      for (const row of element.querySelectorAll(".row")) row.open(wanted);
      for (const more of element.querySelectorAll("details")) more.open = wanted;
      draw();
    }
    function reveal() {
      const article = location.hash ? document.getElementById(location.hash.slice(1)) : null;
      if (article === null || article.tagName !== "ARTICLE" || !element.contains(article)) return;
      for (let at = article.parentElement; at !== element; at = at.parentElement)
        if (at.className === "items") at.previousElementSibling.open(true);
      article.firstElementChild.open(true);
      draw();
      article.scrollIntoView();
    }
    graph.append(...record.tree.map(tree));
    const button = (text, wanted) => make("button", {type: "button", onclick: () => openAll(wanted)}, text);
    element.classList.add("backward");
    element.append(make("p", {className: "summary"}, make("strong", {}, record.sentence)), make("p", {className: "soft"}, FLOW),
      make("p", {className: "soft"}, "The colours of an array: ", make("span", {className: "legend"}), " from below 0 to above 0, relative to the largest value ", MAPS),
      make("div", {className: "bar screen-only"}, button("Expand all", true), button("Collapse all", false)), graph,
      make("h2", {}, "Where the gradients arrive"), make("p", {className: "soft"}, "The gradient of each parameter or other leaf is the sum of what the steps gave to it."), leaves);

    function depth(row) { let n = 0; for (let at = row; at !== graph; at = at.parentElement) n++; return n; }
    let shown = record.tree.length;
    const levels = Map.groupBy(groups, ({row}) => depth(row));
    for (const level of [...levels.keys()].sort((a, b) => a - b)) { // a level at a time, as long as all of it fits
      shown += levels.get(level).reduce((sum, {inside}) => sum + inside.children.length, 0);
      if (shown > SHOWN) break;
      for (const {row} of levels.get(level)) row.open(true);
    }
    let before = [];
    addEventListener("beforeprint", () => {
      before = [...element.querySelectorAll(".row[aria-expanded=false]")];
      openAll(true);
    });
    addEventListener("afterprint", () => {
      for (const row of before) row.open(false);
      draw();
    });
    addEventListener("hashchange", reveal);
    new ResizeObserver(draw).observe(graph);
    draw();
    reveal();
  };
})();
