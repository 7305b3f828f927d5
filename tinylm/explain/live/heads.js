// The heads of a block: which is chosen, what it asks for and offers, where it looks, and what it fetches.

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
  const plus = biased(/(c_attn\.|q_proj\.|in_proj_)bias$/),
    rotation = rms() ? "R_{t} " : "",
    group = q ? heads / state.run.values[`${full}attn.k`].shape[0] : 1, // how many heads share a key and a value
    first = head - (head % group);
  return [
    step(
      which === "cross" ? `To the source, head ${head} of ${heads}` : `Head ${head} of ${heads}`,
      ["Each picture: one head, from each position (downwards) to those it looks at."],
      [headPicker(i, heads, head, which), which === "attn" ? offButton(`${full}attn.head_out`, head, `head ${head}`) : null],
    ),
    q
      ? step(
          "Query, key, value",
          [
            plus && rms() ? "q = R_{t} (W_{q} n + b)" : `q = ${rotation}W_{q} n${plus}`,
            plus && rms() ? "k = R_{t} (W_{k} n + b)" : `k = ${rotation}W_{k} n${plus}`,
            `v = W_{v} n${plus}`,
            rms() ? `R_{t}: rotation by the position, t = ${t} (RoPE)` : "",
            group > 1 ? `Heads ${first} to ${first + group - 1} share key and value head ${first / group}.` : "",
          ],
          [of("attn.q"), of("attn.k"), of("attn.v")],
        )
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
