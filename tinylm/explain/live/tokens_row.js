// The row of tokens, coloured by their loss; one of them is the chosen position.

function drawTokens() {
  const change = isChanged(),
    worst = state.language ? Math.log(state.vocabulary) : 0;
  const shade = state.language ? null : contributions(); // null in a translator
  const most = shade === null ? 0 : largest(shade),
    isChosen = t => t === state.position;
  const row = make("div", {className: "tokens", role: "listbox", "aria-label": "Tokens of the text", "aria-orientation": "horizontal"});
  state.tokens.forEach((token, t) => {
    const loss = state.language && t > 0 ? state.losses[t - 1] : null;
    const value = shade === null ? (loss === null ? 0 : Math.min(1, loss / worst)) : shade[t] / (most || 1);
    const delta = change && loss !== null ? loss - state.plainLosses[t - 1] : 0;
    row.append(
      make(
        "button",
        {
          type: "button",
          role: "option",
          className: `token${value < 0 ? " below" : ""}`,
          id: `token-${t}`,
          tabIndex: isChosen(t) ? 0 : -1,
          "aria-selected": isChosen(t),
          "aria-label": tokenWords(t),
          "data-key": `token ${t}`,
          style: `--value: ${Math.abs(value).toFixed(3)}; --more: ${Math.min(1, Math.max(0, delta)).toFixed(3)}; --less: ${Math.min(1, Math.max(0, -delta)).toFixed(3)}`,
          onclick: () => select(t),
          onpointerenter: () => say(tokenWords(t)),
          onpointerleave: () => say(""),
          onfocus: () => say(tokenWords(t)),
        },
        visible(token),
      ),
    );
  });
  row.classList.toggle("changes", change);
  row.addEventListener("keydown", event => {
    const to = {
      ArrowLeft: state.position - 1,
      ArrowRight: state.position + 1,
      Home: 0,
      End: state.tokens.length - 1,
      ArrowUp: above(row, -1),
      ArrowDown: above(row, 1),
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    select(Math.max(0, Math.min(state.tokens.length - 1, to)));
    find(`token-${state.position}`).focus();
  });
  const scrolled = find("ribbon").firstElementChild?.scrollTop ?? 0;
  find("ribbon").replaceChildren(row);
  showChosen(row, scrolled);
  find("key").textContent = legend(change, worst);
}

// Scrolls the row to where it was, and on to the chosen token if that is outside.
function showChosen(row, scrolled) {
  const {offsetTop, offsetHeight} = row.children[state.position],
    top = offsetTop - row.offsetTop;
  row.scrollTop = Math.min(Math.max(scrolled, top + offsetHeight + 4 - row.clientHeight), top - 4);
}

// The token that stands in the line above or below the chosen one.
function above(row, direction) {
  const buttons = [...row.children],
    here = buttons[state.position].getBoundingClientRect();
  const line = buttons
    .map(button => button.getBoundingClientRect())
    .map((box, i) => ({i, y: box.top, far: Math.abs(box.left - here.left)}));
  const others = line.filter(box => direction * (box.y - here.top) > 2);
  if (!others.length) return state.position;
  const nearest = direction * Math.min(...others.map(box => direction * box.y));
  return others.filter(box => Math.abs(box.y - nearest) < 2).sort((a, b) => a.far - b.far)[0].i;
}

function legend(change, worst) {
  let colours = "";
  if (state.language)
    colours = `Colour: the loss, how much the token surprised the model, from 0 to ${digits(worst, 3)} nats (ln of ${times(state.vocabulary)} tokens).`;
  else if (contributions() !== null)
    colours = `Colour: what each word adds to the logit, for ${quoted(state.labels[1])} (warm) or for ${quoted(state.labels[0])} (cold).`;
  const below = change && state.language ? " Line below: its change, up (warm) or down (cold), in full at 1 nat." : "";
  return `${colours}${below} Choose one by click or arrow keys.`;
}

function tokenWords(t) {
  const place = `position ${t}, ${quoted(state.tokens[t])}`;
  if (!state.language) return contributions() === null ? place : `${place}: adds ${signed(contributions()[t])} to the logit`;
  if (t === 0) return `${place}: the first token, which nothing predicts`;
  const loss = state.losses[t - 1],
    words = `${place}: loss ${digits(loss)} nats, probability ${digits(Math.exp(-loss), 3)}`;
  return !isChanged()
    ? words
    : `${words}; unmodified ${digits(state.plainLosses[t - 1])}, changed by ${signed(loss - state.plainLosses[t - 1])}`;
}

// The sentences under the text.
function drawSentence() {
  const change = isChanged();
  const sentence = find("sentence"),
    changed = find("changed");
  changed.hidden = !change;
  if (state.kind === "translator") {
    sentence.textContent = record.run.sentence;
    return;
  }
  if (!state.language) {
    const logit = logitOf(state.run),
      p = sigmoid(logit / state.temperature),
      before = sigmoid(logitOf(state.plain));
    const says = p > 0.5 ? 1 : 0;
    sentence.replaceChildren(
      "The model says ",
      make("b", {}, quoted(state.labels[says])),
      " with probability ",
      make("b", {}, digits(says ? p : 1 - p, 3)),
      `: logit ${signed(logit, 4)}, and p(${quoted(state.labels[1])}) = σ(logit${heat()}) = ${digits(p)}.`,
    );
    changed.textContent = `Changed: the unmodified model has the logit ${signed(logitOf(state.plain), 4)} and p(${quoted(state.labels[1])}) = ${digits(before)}; the difference of the logits is ${signed(logit - logitOf(state.plain), 4)}.`;
    return;
  }
  if (state.losses.length === 0) {
    sentence.replaceChildren("One token: the model predicts what follows it. A loss needs a second token.");
    changed.hidden = true;
    return;
  }
  const loss = mean(state.losses),
    before = mean(state.plainLosses),
    total = loss * state.losses.length;
  sentence.replaceChildren(
    "Loss ",
    make("b", {id: "loss"}, digits(loss)),
    ` nats per token over ${plural(state.losses.length, "token")}. The right next token got the probability `,
    make("b", {}, digits(Math.exp(-loss), 3)),
    ` on average (geometric mean), all together\u00a0e`,
    make("sup", {}, `−${digits(total, 4)}`),
    ".",
  );
  changed.replaceChildren(
    "Changed: ",
    make("b", {id: "change"}, signed(loss - before, 4)),
    ` nats against the unmodified run, which has ${digits(before)}${state.temperature === 1 ? "" : " at temperature 1"}; `,
    mostChanged(),
  );
}

function mostChanged() {
  const by = state.losses.map((loss, t) => loss - state.plainLosses[t]);
  const t = ranked(by.map(Math.abs))[0];
  return Math.abs(by[t]) < 1e-9
    ? "no position differs."
    : `the most at position ${t + 1}, ${quoted(state.tokens[t + 1])}: ${signed(by[t])}.`;
}
