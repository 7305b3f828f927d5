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
  const fill = () => {
    if (box.open && box.children.length === 1) box.append(...[content()].flat(2).filter(part => part));
  };
  box.addEventListener("toggle", () => {
    state.open[key] = box.open;
    fill();
  });
  fill();
  return box;
}
const inside = name => state.prefix + name;
const row = (name, axis = "position") => (has(inside(name)) ? strip(inside(name), [state.position], [axis]) : null);

function transformerSteps() {
  const layers = layerCount("h"),
    first = lensLine(inside("h.0.resid_pre"));
  return [
    state.live || first ? fold("embed", "Embedding", first, () => [state.live ? embeddingStep() : recordedEmbedding()]) : null,
    ...Array.from({length: layers}, (_, i) => fold(`h.${i}`, `Block ${i}`, lensLine(inside(`h.${i}.resid_post`)), () => blockSteps(i))),
    !state.live
      ? recordedEnd()
      : fold("end", state.language ? "Prediction" : "Decision", null, () => [
          step("Last norm", [normFormula(), normNumbers(inside(`h.${layers - 1}.resid_post`))], [row("norm_f")]),
          ...(state.language ? predictionSteps("W_{out} n", tied() ? "W_{out} = E: the embeddings (tied weights)" : "") : decisionSteps()),
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
  const scale = shownModel().kind === "transformer-classifier" ? `√${shownModel().config.n_embd} ` : "";
  return step(
    positions ? "Token and position" : "Token",
    [
      `x = ${scale}E_{${id}}${positions ? ` + P_{${t}}` : ""}`,
      `E_{${id}}: the row of ${quoted(state.tokens[t])}${positions ? `, P_{${t}}: of position ${t}` : ""}`,
    ],
    [row("embed"), positions ? strip(inside("pos_embed"), [t], ["position"]) : null, row("h.0.resid_pre")],
  );
}

const rms = () => shownModel().kind === "llama";
const normFormula = () =>
  rms() ? "n = x / √(mean(x²) + ε) ⊙ γ" : "n = (x − mean) / √(variance + ε) ⊙ γ" + (biased(/(ln_1|norm1)\.bias$/) ? " + β" : "");
// Whether the output layer's weights are the embeddings.
function tied() {
  const parameters = Object.entries(state.packed.parameters).filter(([name]) => name.startsWith(state.prefix));
  const [embeddings, output] = [/(wte|embed_tokens)\.weight$/, /lm_head\.weight$/].map(end => parameters.find(([name]) => end.test(name))?.[1]);
  return output !== undefined && output.offset === embeddings?.offset;
}
const biased = pattern => (Object.keys(state.model?.parameters ?? {}).some(name => pattern.test(name)) ? " + b" : "");
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
      ? step(
          "All heads together",
          ["a = Σ_{h} head_{h}" + biased(/attn\.(c_proj|o_proj|out_proj)\.bias$/), headNorms(full, heads, t)],
          [row(`${h}attn.out`)],
        )
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

function mlpStep(i) {
  const h = `h.${i}.mlp.`,
    full = inside(h),
    gated = has(`${full}gate`),
    hidden = vector(state.run, `${full}hidden`, state.position);
  const best = ranked(hidden.map(Math.abs)).slice(0, 6),
    pre = gated ? null : vector(state.run, `${full}pre`, state.position);
  const act = state.language ? "gelu" : "relu",
    how = shownModel().config.activation === "gelu_tanh" ? " (its approximation by tanh)" : "",
    plus = biased(/(c_fc|linear1|gate_proj)\.bias$/);
  const formulas = gated
    ? [`g = W_{gate} n${plus},  u = W_{up} n${plus}`, "h = g σ(g) ⊙ u", `m = W_{down} h${plus}`]
    : [`p = W_{1} n${plus}`, `h = ${act}(p)${how}`, `m = W_{2} h${plus}`];
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
      offButton(`${full}out`, undefined, "MLP"),
    ],
  );
}

// Switches a part off, and on again.
function offButton(name, index, title) {
  if (!state.live) return null;
  const scale = scaleOf(name, index);
  return make(
    "button",
    {type: "button", className: "off-button", "aria-pressed": scale === 0, "data-key": `off ${name}`, onclick: () => toggle(name, index)},
    `Switch ${title} ${scale === 0 ? "on" : "off"}`,
  );
}
