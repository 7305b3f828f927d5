"""What the tests of the live page do in it, after the HELPERS of live_pages.py: scripts that write down what they find."""

LANGUAGE = """
  found.loss = $("loss").textContent;
  write(FIRST_TEXT);
  found.other = [$("loss").textContent, tokens().join("")];
  press(document.querySelector(".token[aria-selected=true]"), "Home");
  press(document.querySelector(".token[aria-selected=true]"), "ArrowRight");
  press(document.querySelector(".token[aria-selected=true]"), "ArrowRight");
  found.chosen = [chosen(), document.activeElement.id];
  found.focus = focused(document.activeElement);
"""
TRANSFORMER = """
  for (const each of document.querySelectorAll("details")) each.open = true;
  const q = key("strip h.1.attn.q");
  found.hover = point(q, (3 + .5) / 4);
  found.focusStrip = focused(q);
  press(q, "Home");
  press(q, "ArrowRight");
  found.arrow = [$("readout").textContent, q.getAttribute("aria-valuetext")];
  found.formulas = [...document.querySelectorAll(".formula")].map(e => e.textContent);
  key("head 1 0").click();
  press(key("head 1 0"), "ArrowRight");
  found.head = point(key("strip h.1.attn.z"), .01);
  document.querySelector('[data-name="h.1.attn.head_out"][data-index="0"]').click();
  found.off = [$("loss").textContent, $("change").textContent, document.querySelector(".switch.off").textContent];
  document.querySelector('[data-name="h.0.mlp.out"]').click();
  found.both = $("loss").textContent;
  const strips = () => document.querySelectorAll("#steps .strip").length;
  const all = strips();
  for (const each of document.querySelectorAll(".block")) {
    each.open = false;
    each.dispatchEvent(new window.Event("toggle"));
  }
  $("text").dispatchEvent(new window.Event("change"));
  found.printed = [strips()];
  window.dispatchEvent(new window.Event("beforeprint"));
  found.printed.push(strips(), document.querySelectorAll("#steps details:not([open])").length);
  window.dispatchEvent(new window.Event("afterprint"));
  found.printed.push(document.querySelectorAll("#steps details[open]").length, all);
  $("reset").click();
  found.reset = [$("loss").textContent, $("changed").hidden];
  write("the \\u00fc");
  found.problem = [$("problem").hidden, $("problem").textContent, tokens().join("")];
  write("");
  found.empty = $("problem").textContent;
  write(FIRST_TEXT);
  found.again = [$("problem").hidden, $("loss").textContent];
  const choose = (id, value, name) => { $(id).value = value; $(id).dispatchEvent(new window.Event(name)); };
  choose("parameter", [...$("parameter").options].map(e => e.value).find(name => /(ln_f|model.norm).weight$/.test(name)), "change");
  choose("index", "99", "input");
  key("apply").click();
  found.refused = [...document.querySelectorAll(".control .problem")].map(e => e.textContent).join("");
  choose("index", "", "input");
  key("apply").click();
  found.uniform = $("loss").textContent;
  $("reset").click();
  document.querySelector('[data-name="h.1.attn.head_out"][data-index="1"]').click();
"""
RECURRENT = """
  found.gate = key("strip rnn.1.forget").closest(".activation").querySelector(".size").textContent;
  found.hover = point(key("strip rnn.1.forget"), (5 + .5) / 16);
  key("part rnn.1 c").click();
  found.picture = point(key("grid rnn.1"), .01);
  const unit = key("unit rnn.0");
  unit.value = 3;
  unit.dispatchEvent(new window.Event("change"));
  key("unit-off rnn.0").click();
  found.off = $("loss").textContent;
  found.formula = [...document.querySelectorAll(".formula")].map(e => e.textContent).find(text => text.startsWith("h = o tanh(c)"));
"""
CLASSIFIER = """
  found.sentence = $("sentence").textContent;
  write(SECOND_TEXT);
  found.other = $("sentence").textContent;
  found.hover = point(key("strip members.0.rnn.0.reverse.h"), (2 + .5) / 8);
  found.pooled = point(key("strip members.0.pooled"), (9 + .5) / 16);
  const logit = [...document.querySelectorAll(".step")].find(e => e.querySelector("h4").textContent === "Logit");
  found.logit = logit.querySelector(".how").textContent;
  key("unit-off members.0.rnn.0").click();
  found.off = $("sentence").textContent;
  found.unit = Number(key("unit members.0.rnn.0").value);
  found.note = $("note").hidden;
  write("the good wolf " + "fox ".repeat(600));
  const row = document.querySelector(".tokens");
  row.scrollTop = 200;
  [...row.children].find(token => token.offsetTop - row.offsetTop > 230).click();
  found.scroll = [document.querySelector(".tokens") !== row, document.querySelector(".tokens").scrollTop];
  found.cut = $("note").textContent;
"""
