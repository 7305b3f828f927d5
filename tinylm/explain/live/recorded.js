// What the page shows of a model that it cannot compute: the recorded run of one text.

function loadRecorded() {
  const {run} = record,
    values = {};
  for (const [name, {shape, data}] of Object.entries(run.values)) values[name] = {shape, data: halves(bytesOf(data))};
  state.run = state.plain = {values};
  state.vocabulary = run.vocab_size;
  state.members = run.parts.map(part => part.prefix);
  state.ids = run.ids ?? [];
  state.losses = state.plainLosses = run.losses ?? [];
  find("recorded").hidden = false;
  find("recorded").textContent =
    `This is a recorded run of one text, since ${record.problem}. The text and the weights cannot be changed here.` +
    (run.omitted.length
      ? ` To keep the file small it lacks ${run.omitted.length} larger arrays (${run.omitted.slice(0, 3).join(", ")}${run.omitted.length > 3 ? ", …" : ""}).`
      : "");
  find("text").readOnly = true;
  find("warmth").closest(".warmth").hidden = true;
}

// The tokens of the part that is shown: a translator has two.
function recordedTokens() {
  const part = record.run.parts.find(each => each.prefix === state.prefix);
  state.tokens = part.tokens;
  state.sources = part.sources;
}

// The end of a recorded run; a translator's is in the sentence above.
function recordedEnd() {
  if (state.language) return fold("end", "Prediction", null, () => [recordedPrediction()]);
  return state.kind === "classifier" ? fold("end", "Decision", null, recordedDecision) : null;
}
function recordedPrediction() {
  const {top, right} = record.run.predictions[state.position];
  const rows = top.map(([token, p]) =>
    make(
      "tr",
      {},
      make("td", {}, make("b", {className: "number"}, visible(token))),
      make("td", {className: "number"}, digits(p, 3)),
      make("td", {className: "length"}, make("span", {style: `--part: ${(p / top[0][1]).toFixed(4)}`})),
    ),
  );
  const words =
    right === null
      ? "The text ends here: there is no right next token, and no loss."
      : `The right next token, ${quoted(right[0])}, has probability ${digits(right[1])} and rank ${times(right[2])}: the loss is −log p = ${digits(state.losses[state.position])} nats.`;
  return step(
    "Probabilities",
    [`The ${top.length} likeliest of ${times(state.vocabulary)} tokens`],
    [make("table", {className: "predictions"}, make("tbody", {}, rows)), make("p", {}, words)],
  );
}
function recordedDecision() {
  const adds = contributions(),
    logit = record.run.logit,
    p = sigmoid(logit);
  return [
    adds === null
      ? null
      : step(
          "From where",
          [`What each word, and the pair that it ends, adds to the logit: ${record.run.formula}`],
          [
            bars("bars words", "what each word adds to the logit", adds, {
              text: i => `position ${i}, ${quoted(state.tokens[i])}: adds ${signed(adds[i], 4)} to the logit`,
              choose: select,
              chosen: state.position,
            }),
          ],
        ),
    step(
      "Label",
      ["p = σ(logit)"],
      [
        make(
          "p",
          {},
          `σ(${digits(logit)}) = `,
          make("b", {}, digits(p)),
          `: ${quoted(state.labels[1])} with probability ${digits(p, 3)}, ${quoted(state.labels[0])} with ${digits(1 - p, 3)}.`,
        ),
      ],
    ),
  ];
}

function recordedEmbedding() {
  const size = record.run.norms[inside("h.0.resid_pre")]?.[state.position];
  return step(
    "Token",
    [`x: the embedding of ${quoted(state.tokens[state.position])}, as the first block gets it`],
    [size === undefined ? null : make("p", {className: "number"}, `‖x‖ = ${digits(size)}`)],
  );
}

// The norm of a residual stream, of which the recorded run has nothing else.
function recordedNorm(i) {
  const norms = ["resid_pre", "resid_mid", "resid_post"].map(name => record.run.norms[inside(`h.${i}.${name}`)]?.[state.position]);
  return norms.includes(undefined)
    ? null
    : step(
        "Residual stream",
        [
          record.run.post_norm
            ? "‖x‖ before, after attention and its norm, and after the MLP and its norm"
            : "‖x‖ before, after attention, and after the MLP",
        ],
        [make("p", {className: "number"}, norms.map(x => digits(x)).join(" → "))],
        "stream",
      );
}
