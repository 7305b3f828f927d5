// What the model would predict: the lens beside each layer, and the last logits as a table.

const heat = () => (state.temperature === 1 ? "" : ` / ${digits(state.temperature, 3)}`);
const rightNext = () => (state.position + 1 < state.ids.length ? state.ids[state.position + 1] : null);

// The logit lens: this residual stream through the last norm and the output layer. Three tokens, and the right one.
function lensLine(name) {
  const seen = state.live ? likeliest(name, 3) : (record.run.lens?.[name]?.[state.position] ?? null);
  if (seen === null) return null;
  const {top, right} = seen,
    isRight = ([token, p]) => right !== null && token === right[0] && Math.abs(p - right[1]) < 1e-6;
  const chips = top.map(each => chip(...each, isRight(each)));
  const words =
    right === null || top.some(isRight)
      ? null
      : make("span", {className: "soft"}, `right: ${quoted(right[0])} ${percent(right[1])}, rank ${times(right[2])}`);
  return make("div", {className: "lens"}, make("span", {className: "soft"}, "lens"), chips, words);
}

// {top: [[token, probability]], right: [token, probability, rank], null at the end of the text}.
function likeliest(name, count) {
  if (!state.language || recurrentLayers().length) return null;
  const logits = lens(state.model, state.run, name, state.position),
    p = probabilities(logits, state.temperature),
    right = rightNext();
  return {
    top: ranked(logits)
      .slice(0, count)
      .map(id => [spelt(id), p[id]]),
    right: right === null ? null : [spelt(right), p[right], rankOf(logits, right)],
  };
}
function chip(token, p, right) {
  return make(
    "span",
    {
      className: `chip${right ? " right" : ""}`,
      style: `--part: ${p.toFixed(4)}`,
      title: `${quoted(token)}: probability ${digits(p)}${right ? ", the right next token" : ""}`,
    },
    make("b", {}, visible(token)),
    " ",
    percent(p),
    right ? make("span", {className: "tick", "aria-label": "right"}, " ✓") : null,
  );
}

// The ten most likely next tokens; the right one is added if it is not among them.
function predictionTable(name) {
  const t = state.position,
    logits = vector(state.run, name, t),
    p = probabilities(logits, state.temperature),
    right = rightNext();
  const change = isChanged(),
    before = probabilities(vector(state.plain, name, t), 1);
  const order = ranked(logits),
    shown = order.slice(0, 10);
  if (right !== null && !shown.includes(right)) shown.push(right);
  const head = ["rank", "next token", "logit", "probability", "", change ? "unmodified (change)" : null].filter(text => text !== null);
  const body = shown.map(id =>
    make(
      "tr",
      {className: id === right ? "right" : ""},
      make("td", {className: "number"}, times(rankOf(logits, id))),
      make(
        "td",
        {},
        make("b", {className: "number"}, visible(spelt(id))),
        id === right ? make("span", {className: "tick"}, " ✓ right") : null,
      ),
      make("td", {className: "number"}, digits(logits[id])),
      make("td", {className: "number"}, digits(p[id], 3)),
      make("td", {className: "length"}, make("span", {style: `--part: ${(p[id] / p[order[0]]).toFixed(4)}`})),
      change ? make("td", {className: "number"}, `${digits(before[id], 3)} (${signed(p[id] - before[id], 2)})`) : null,
    ),
  );
  return make(
    "div",
    {className: "wide"},
    make(
      "table",
      {className: `predictions${change ? " compared" : ""}`},
      make(
        "thead",
        {},
        make(
          "tr",
          {},
          head.map(text => make("th", {scope: "col"}, text)),
        ),
      ),
      make("tbody", {}, body),
    ),
  );
}

// The last step of a language model: logits, probabilities, loss.
function predictionSteps(source, tie = "") {
  const t = state.position,
    right = rightNext(),
    name = "logits";
  const logits = vector(state.run, name, t),
    loss = right === null ? null : lossAt(logits, right, state.temperature);
  // Of several members z is the logarithm of their mean probability.
  const several = state.members.length > 1,
    own = inside(name);
  return [
    several ? step("Logits of this member", [`z = ${source}`, tie], [has(own) ? strip(own, [t], ["position"]) : null]) : null,
    step(
      several ? "All members together" : "Logits",
      [several ? "z = log mean_{m} p_{m}" : `z = ${source}`, several ? "" : tie, `p_{i} = exp(z_{i}${heat()}) / Σ_{j} exp(z_{j}${heat()})`],
      [logits.length <= 1024 ? strip(name, [t], ["position"]) : null, predictionTable(name)],
    ),
    step(
      "Loss",
      ["−log p of the right next token"],
      [
        right === null
          ? make("p", {}, "The text ends here: there is no right next token, and no loss.")
          : make(
              "p",
              {},
              `−log ${digits(Math.exp(-loss))} = `,
              make("b", {}, digits(loss)),
              ` nats. The right next token, ${quoted(spelt(right))}, has rank ${times(rankOf(logits, right))} of ${times(logits.length)}.`,
            ),
      ],
    ),
  ];
}
