// One position on its way through a Transformer: each step with its formula beside its numbers.

function step(title, formulas, content, kind = "") {
  return make(
    "section",
    {className: `step ${kind}`},
    make("div", {className: "what"}, make("h4", {}, title), formulas.filter(text => text).map(formula)),
    make("div", {className: "how"}, content),
  );
}
// Which parts are open at first: all in a wide window, unless they are many.
const opens = key => !/[.]/.test(key) || /[.]0$/.test(key) || (matchMedia("(min-width: 44.01rem)").matches && layerCount("h") <= 6);
// A part of the page that opens and closes, and stays as it was when the page is drawn again.
function fold(key, title, beside, content) {
  const box = make(
    "details",
    {className: "block", open: state.open[key] ?? opens(key)},
    make("summary", {"data-key": `fold ${key}`}, make("h3", {}, title), beside),
  );
  box.addEventListener("toggle", () => {
    state.open[key] = box.open;
    if (box.open && box.children.length === 1)
      box.append(
        ...content()
          .flat()
          .filter(part => part),
      );
  });
  if (box.open)
    box.append(
      ...content()
        .flat()
        .filter(part => part),
    );
  return box;
}
const inside = name => state.prefix + name;
const row = (name, axis = "position") => (has(inside(name)) ? strip(inside(name), [state.position], [axis]) : null);

function transformerSteps() {
  const layers = layerCount("h"),
    first = lensLine(inside("h.0.resid_pre"));
  return [
    state.live || first ? fold("embed", "Embedding", first, () => (state.live ? [embeddingStep()] : [])) : null,
    ...Array.from({length: layers}, (_, i) => fold(`h.${i}`, `Block ${i}`, lensLine(inside(`h.${i}.resid_post`)), () => blockSteps(i))),
    !state.live
      ? recordedEnd()
      : fold("end", state.language ? "Prediction" : "Decision", null, () => [
          step("Last norm", [normFormula(), normNumbers(inside(`h.${layers - 1}.resid_post`))], [row("norm_f")]),
          ...(state.language ? predictionSteps("W_{out} n") : decisionSteps()),
        ]),
  ];
}
const layerCount = stem => {
  let n = 0;
  while (Object.keys(state.run.values).some(name => name.startsWith(`${state.prefix}${stem}.${n}.`))) n++;
  return n;
};

function embeddingStep() {
  const t = state.position,
    id = state.ids[t],
    positions = has(inside("pos_embed"));
  return step(
    "Token and position",
    [
      `x = E_{${id}}${positions ? ` + P_{${t}}` : ""}`,
      `E_{${id}}: the row of ${quoted(state.tokens[t])}${positions ? `, P_{${t}}: of position ${t}` : ""}`,
    ],
    [row("embed"), positions ? strip(inside("pos_embed"), [t], ["position"]) : null, row("h.0.resid_pre")],
  );
}

const rms = () => shownModel().kind === "llama";
const normFormula = () => (rms() ? "n = x / √(mean(x²) + ε) ⊙ γ" : "n = (x − mean) / √(variance + ε) ⊙ γ" + (hasBias() ? " + β" : ""));
const hasBias = () => Object.keys(state.model.parameters).some(name => /(ln_1|norm1)\.bias$/.test(name));
function normNumbers(name) {
  if (!has(name)) return "";
  const x = vector(state.run, name, state.position);
  return rms()
    ? `√mean(x²) = ${digits(Math.sqrt(mean(x.map(v => v * v))), 3)}`
    : `mean ${digits(mean(x), 3)}, √variance ${digits(spread(x), 3)}`;
}

function blockSteps(i) {
  const h = `h.${i}.`,
    full = inside(h),
    t = state.position;
  const heads = has(`${full}attn.pattern`) ? state.run.values[`${full}attn.pattern`].shape[0] : 0;
  const head = Math.min(state.head[i] ?? 0, Math.max(0, heads - 1));
  const parts = [
    has(`${full}norm_1`) ? step("Norm", [normFormula(), normNumbers(`${full}resid_pre`)], [row(`${h}norm_1`)]) : null,
    heads ? attentionSteps(i, heads, head) : null,
    state.sources && has(`${full}cross.pattern`)
      ? attentionSteps(i, state.run.values[`${full}cross.pattern`].shape[0], state.head[`cross ${i}`] ?? 0, "cross")
      : null,
    has(`${full}attn.out`)
      ? step("All heads together", ["a = Σ_{h} head_{h}" + (hasBias() ? " + b" : ""), headNorms(full, heads, t)], [row(`${h}attn.out`)])
      : null,
    has(`${full}resid_mid`)
      ? step(
          "Residual stream",
          ["x ← x + a", grows(`${full}resid_pre`, `${full}resid_mid`)],
          [row(`${h}resid_mid`), lensLine(`${full}resid_mid`)],
          "stream",
        )
      : null,
    has(`${full}norm_2`) ? step("Norm", [normFormula(), normNumbers(`${full}resid_mid`)], [row(`${h}norm_2`)]) : null,
    has(`${full}mlp.hidden`) ? mlpStep(i) : null,
    has(`${full}resid_post`)
      ? step(
          "Residual stream",
          ["x ← x + m", grows(`${full}resid_mid`, `${full}resid_post`)],
          [row(`${h}resid_post`), lensLine(`${full}resid_post`)],
          "stream",
        )
      : null,
    state.live ? null : recordedNorm(i),
  ];
  return parts;
}
function grows(from, to) {
  if (!has(from)) return "";
  const sizes = [from, to].map(name => digits(norm(vector(state.run, name, state.position)), 3));
  return `‖x‖: ${sizes[0]} → ${sizes[1]}`;
}
function headNorms(full, heads, t) {
  if (!has(`${full}attn.head_out`)) return "";
  return `‖head_{h}‖: ${Array.from({length: heads}, (_, h) => digits(norm(vector(state.run, `${full}attn.head_out`, h, t)), 3)).join(", ")}`;
}

// which: attn, or cross for a translator's attention to its source.
function attentionSteps(i, heads, head, which = "attn") {
  const full = inside(`h.${i}.`),
    t = state.position,
    tokens = which === "cross" ? state.sources : state.tokens;
  const pattern = vector(state.run, `${full}${which}.pattern`, head, t);
  const q = state.run.values[`${full}${which}.q`],
    width = q ? q.shape[2] : null;
  const shared = name => (q ? Math.floor(head / (heads / state.run.values[name].shape[0])) : head); // Llama's heads share keys and values
  const of = name => (has(full + name) ? strip(full + name, [shared(full + name), t], ["head", "position"]) : null);
  const seen = state.language || (state.sources && which === "attn") ? pattern.subarray(0, t + 1) : pattern;
  const scores = has(`${full}attn.scores`) ? vector(state.run, `${full}attn.scores`, head, t) : null;
  const text = s =>
    `${full}${which}.pattern[${head}, ${t}, ${s}] = ${digits(pattern[s], 5)}, on ${quoted(tokens[s])}` +
    (scores === null ? "" : `: e^${digits(scores[s], 3)} / Σ`) +
    (state.run === state.plain ? "" : `, unmodified ${digits(vector(state.plain, `${full}attn.pattern`, head, t)[s], 5)}`);
  const turn = rms() ? ", turned by the position" : "";
  return [
    step(
      which === "cross" ? `To the source, head ${head} of ${heads}` : `Head ${head} of ${heads}`,
      ["Each picture: one head, from each position (downwards) to those it looks at."],
      [headPicker(i, heads, head, which)],
    ),
    q
      ? step("Query, key, value", [`q = W_{q} n${turn}`, `k = W_{k} n${turn}`, "v = W_{v} n"], [of("attn.q"), of("attn.k"), of("attn.v")])
      : null,
    step(
      "Attention",
      [
        width ? `w_{s} = softmax_{s}(q · k_{s} / √${width})` : "w_{s} = softmax_{s}(q · k_{s} / √d)",
        `from ${quoted(state.tokens[t])}, position ${t}`,
        strongest(seen, tokens),
      ],
      [
        make(
          "div",
          {className: "caption"},
          make("code", {}, `${full}${which}.pattern`),
          make("span", {}, `head ${head}, position ${t} · ${seen.length} weights`),
          make("span", {className: "size"}, `the largest ${digits(largest(seen), 3)}`),
        ),
        bars(`bars ${full}${which}.pattern`, `where head ${head} of block ${i} looks from position ${t}`, seen, {
          text,
          tokens,
          choose: which === "cross" ? null : select,
          chosen: which === "cross" ? -1 : t,
          className: "weights",
        }),
      ],
    ),
    has(`${full}attn.z`)
      ? step(
          "What it fetches",
          ["z = Σ_{s} w_{s} v_{s}", "head = W_{o} z"],
          [of("attn.z"), has(`${full}attn.head_out`) ? strip(`${full}attn.head_out`, [head, t], ["head", "position"]) : null],
        )
      : null,
  ];
}
function strongest(weights, tokens) {
  const order = ranked(weights)
    .slice(0, 3)
    .filter(s => weights[s] >= 0.01);
  return order.map(s => `${quoted(tokens[s])} at ${s}: ${digits(weights[s], 2)}`).join(", ");
}

// The heads as small pictures of their attention; darkness is the square root of the weight.
function headPicker(i, heads, head, which) {
  const {
      shape: [, rows, columns],
      data: all,
    } = state.run.values[inside(`h.${i}.${which}.pattern`)],
    key = which === "cross" ? `cross ${i}` : i;
  const choose = h => {
    state.head[key] = h;
    draw();
    document.querySelector(`[data-key="head ${key} ${h}"]`).focus();
  };
  const list = make("div", {className: "heads", role: "radiogroup", "aria-label": `Head of block ${key}`});
  for (let h = 0; h < heads; h++) {
    const canvas = make("canvas", {className: "numbers"}),
      off = which === "cross" ? 1 : scaleOf(inside(`h.${i}.attn.head_out`), h);
    paint(canvas, columns, rows, k => all[h * rows * columns + k], 1, "weight");
    list.append(
      make(
        "button",
        {
          type: "button",
          role: "radio",
          className: "head-choice",
          "aria-checked": h === head,
          tabIndex: h === head ? 0 : -1,
          "data-key": `head ${key} ${h}`,
          onclick: () => choose(h),
        },
        canvas,
        make("span", {}, `head ${h}`, off === 1 ? "" : off === 0 ? ", off" : ` × ${digits(off, 2)}`),
      ),
    );
  }
  list.addEventListener("keydown", event => {
    const by = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (!by) return;
    event.preventDefault();
    choose((head + by + heads) % heads);
  });
  return list;
}

function mlpStep(i) {
  const h = `h.${i}.mlp.`,
    full = inside(h),
    gated = has(`${full}gate`),
    hidden = vector(state.run, `${full}hidden`, state.position);
  const best = ranked(hidden.map(Math.abs)).slice(0, 6),
    pre = gated ? null : vector(state.run, `${full}pre`, state.position);
  const act = {gelu_tanh: "gelu", relu: "relu"}[shownModel().config.activation] ?? (state.language ? "gelu" : "relu");
  const formulas = gated
    ? ["g = W_{gate} n,  u = W_{up} n", "h = g σ(g) ⊙ u", "m = W_{down} h"]
    : ["p = W_{1} n", `h = ${act}(p)`, "m = W_{2} h"];
  const active = hidden.filter(v => Math.abs(v) > 0.1).length;
  return step(
    "MLP",
    [...formulas, `${active} of ${hidden.length} units beyond ±0.1`],
    [
      gated ? [row(`${h}gate`), row(`${h}up`)] : row(`${h}pre`),
      row(`${h}hidden`),
      make(
        "p",
        {className: "units"},
        make("span", {className: "soft"}, "strongest units "),
        best.map(u =>
          make("span", {className: "unit"}, `${u}: `, make("b", {}, digits(hidden[u], 3)), pre ? ` from ${digits(pre[u], 3)}` : ""),
        ),
      ),
      row(`${h}out`),
    ],
  );
}
