// A classifier: what pooling took from where, the logit, and the label's probability.

const logitOf = run => (state.live ? run.values.logits.data[0] : record.run.logit);

// What each position adds to the logit, over all members: of a maximum the units whose maximum it has, of a mean its part.
function contributions() {
  if (!state.live) return record.run.adds ?? null;
  if (state.adds === null) {
    const each = state.members.map(prefix => addedBy(prefix));
    state.adds = each[0].map((_, t) => each.reduce((sum, adds) => sum + adds[t], 0) / each.length);
  }
  return state.adds;
}
function addedBy(prefix) {
  const T = state.tokens.length,
    adds = new Float64Array(T),
    w = state.run.parameters[`${prefix}decoder.weight`]?.data;
  if (w === undefined) return adds;
  const pooled = state.run.values[`${prefix}pooled`].data;
  if (`${prefix}norm_f` in state.run.values) {
    const {
      shape: [, C],
      data,
    } = state.run.values[`${prefix}norm_f`];
    data.forEach((v, i) => {
      adds[Math.floor(i / C)] += (w[i % C] * v) / T;
    });
  } else
    winners(prefix).forEach((t, unit) => {
      adds[t] += w[unit] * pooled[unit];
    });
  return adds;
}

// The position where each unit of the last layer has its maximum, both directions.
function winners(prefix) {
  const last = Math.max(
    ...Object.keys(state.run.values)
      .map(name => name.match(/rnn\.(\d+)\.h$/))
      .filter(found => found)
      .map(found => Number(found[1])),
  );
  return [`${prefix}rnn.${last}.h`, `${prefix}rnn.${last}.reverse.h`]
    .filter(name => name in state.run.values)
    .flatMap(name => {
      const {
        shape: [T, H],
        data,
      } = state.run.values[name];
      return Array.from({length: H}, (_, u) => {
        let best = 0;
        for (let t = 1; t < T; t++) if (data[t * H + u] > data[best * H + u]) best = t;
        return best;
      });
    });
}

function decisionSteps() {
  const name = inside("pooled"),
    maximum = !has(inside("norm_f")),
    adds = addedBy(state.prefix),
    T = state.tokens.length,
    t = state.position;
  const bias = state.run.parameters[`${state.prefix}decoder.bias`]?.data[0] ?? 0;
  const own = adds.reduce((sum, v) => sum + v, bias),
    logit = logitOf(state.run),
    several = state.members.length > 1;
  const won = maximum ? winners(state.prefix) : [],
    counts = Array.from({length: T}, (_, k) => won.filter(k2 => k2 === k).length);
  const text = k =>
    `position ${k}, ${quoted(state.tokens[k])}: adds ${signed(adds[k], 4)} to the logit` +
    (maximum ? `, the maximum of ${plural(counts[k], "unit")} of ${won.length}` : "");
  const p = sigmoid(logit / state.temperature),
    label = state.labels[1];
  const from = unit => (maximum ? `, from position ${won[unit]}, ${quoted(state.tokens[won[unit]])}` : "");
  return [
    step(
      "Pooling",
      [
        maximum ? "m_{u} = max_{t} h_{t,u}" : "m = mean_{t} n_{t}",
        maximum ? `From ${quoted(state.tokens[t])} come ${counts[t]} of ${won.length} maxima.` : `Each of ${T} positions counts 1/${T}.`,
      ],
      [has(name) ? strip(name, [], [], "signed", from) : null],
    ),
    step(
      "From where",
      [
        `What each position adds to the logit${several ? " of this member" : ""}: warm for ${quoted(label)}, cold for ${quoted(state.labels[0])}`,
        maximum ? "Σ w_{u} m_{u} over the units whose maximum it has" : "w · n_{t} / T",
        `${quoted(state.tokens[t])}: ${signed(adds[t])}`,
      ],
      [bars(`bars ${name}`, "what each position adds to the logit", adds, {text, choose: select, chosen: t})],
    ),
    step(
      "Logit",
      ["w · m + b", several ? "the mean over the members" : ""],
      [
        make(
          "p",
          {},
          `The sum of the bars, ${digits(own - bias)}, and b, ${digits(bias)}, is `,
          make("b", {}, digits(own)),
          several ? `; over all ${state.members.length} members the mean is ` : "",
          several ? make("b", {}, digits(logit)) : "",
          ".",
        ),
      ],
    ),
    step(
      "Label",
      [`p = σ(logit${heat()})`],
      [
        make(
          "p",
          {},
          `σ(${digits(logit / state.temperature)}) = `,
          make("b", {}, digits(p)),
          `: ${quoted(label)} with probability ${digits(p, 3)}, ${quoted(state.labels[0])} with ${digits(1 - p, 3)}.`,
        ),
      ],
    ),
  ];
}
