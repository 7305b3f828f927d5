// One unit of a recurrent layer at one step: its cell's formulas with their numbers.

// The formulas of the cell, with the numbers of one unit at this step.
function unitFormulas(layer, unit) {
  const t = state.position,
    before = layer.endsWith(".reverse") ? t + 1 : t - 1,
    first = before < 0 || before >= state.tokens.length;
  const get = (part, at = t) => {
    const {
      shape: [, H],
      data,
    } = state.run.values[`${layer}.${part}`];
    return data[at * H + unit];
  };
  const say3 = x => {
    const text = digits(x, 3);
    return x < 0 ? `(${text})` : text;
  };
  const old = part => (first ? 0 : get(part, before)),
    kind = cell();
  const scale = scaleOf(`${layer}.h`, unit),
    changed = scale === 1 ? "" : `, then × ${digits(scale, 3)}`;
  if (kind === "lstm")
    return [
      `input i = σ(W_{i} x + U_{i} h′ + b_{i}) = ${digits(get("input"), 3)}`,
      `forget f = σ(W_{f} x + U_{f} h′ + b_{f}) = ${digits(get("forget"), 3)}`,
      `candidate g = tanh(W_{g} x + U_{g} h′ + b_{g}) = ${digits(get("candidate"), 3)}`,
      `output o = σ(W_{o} x + U_{o} h′ + b_{o}) = ${digits(get("output"), 3)}`,
      `c = f c′ + i g = ${digits(get("forget"), 3)} · ${say3(old("c"))} + ${digits(get("input"), 3)} · ${say3(get("candidate"))} = ${digits(get("c"), 3)}`,
      `h = o tanh(c) = ${digits(get("output"), 3)} · tanh(${digits(get("c"), 3)}) = ${digits(get("output") * Math.tanh(get("c")), 3)}${changed}`,
      first ? "c′ and h′, of the step before, are 0 at the first." : "c′, h′: of the step before.",
    ];
  if (kind === "gru") {
    const whole = (1 - get("update")) * get("candidate") + get("update") * old("h");
    return [
      `reset r = σ(W_{r} x + U_{r} h′ + b_{r}) = ${digits(get("reset"), 3)}`,
      `update z = σ(W_{z} x + U_{z} h′ + b_{z}) = ${digits(get("update"), 3)}`,
      `candidate n = tanh(W_{n} x + b_{n} + r (U_{n} h′ + c_{n})) = ${digits(get("candidate"), 3)}`,
      `h = (1 − z) n + z h′ = ${digits(1 - get("update"), 3)} · ${say3(get("candidate"))} + ${digits(get("update"), 3)} · ${say3(old("h"))} = ${digits(whole, 3)}${changed}`,
      first ? "h′, of the step before, is 0 at the first." : "h′: of the step before.",
    ];
  }
  return [
    `h = ${shownModel().config.nonlinearity ?? "tanh"}(W x + U h′ + b)${changed} = ${digits(get("h"), 3)}`,
    `h′, of the step before: ${digits(old("h"), 3)}`,
  ];
}
const cell = () => (has(`${recurrentLayers()[0]}.c`) ? "lstm" : has(`${recurrentLayers()[0]}.update`) ? "gru" : "rnn");
