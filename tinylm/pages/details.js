// The buttons of .details-bar open and close every <details> of the page; it is printed with all of them open.
{
  const all = () => [...document.querySelectorAll("details")];
  const bar = document.querySelector(".details-bar");
  const [open, close] = bar.querySelectorAll("button");
  open.addEventListener("click", () => { for (const one of all()) one.open = true; });
  close.addEventListener("click", () => { for (const one of all()) one.open = false; });
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all().filter(one => !one.open);
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });
  bar.hidden = false;
}
