"use strict";
for (const explorer of document.querySelectorAll(".explorer")) {
  const controls = explorer.querySelector(".controls");
  const [group, sort, order] = controls.querySelectorAll("select");
  const list = explorer.querySelector(".instances");
  const all = [...list.children];
  const shown = controls.querySelector("output");

  const update = () => {
    const column = sort.selectedIndex - 1;
    const value = (item) => {
      const number = Number.parseFloat(item.dataset.values.split(" ")[column]);
      return Number.isNaN(number) ? null : number;
    };
    const sign = order.selectedIndex === 0 ? -1 : 1;
    const sorted = column < 0 ? all : [...all].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (x - y);
    });
    list.append(...sorted);
    let count = 0;
    for (const item of sorted) {
      item.hidden = group.selectedIndex > 0 && item.dataset.group !== String(group.selectedIndex - 1);
      count += !item.hidden;
    }
    shown.textContent = `${count} of ${all.length} shown`;
  };
  controls.addEventListener("change", update);
  controls.addEventListener("click", (event) => {
    if (!event.target.dataset.open) return;
    for (const item of all) if (!item.hidden) item.open = event.target.dataset.open === "yes";
  });

  // One stop for the Tab key in each text; the arrow keys go from word to word.
  for (const words of explorer.querySelectorAll(".words")) words.firstElementChild?.setAttribute("tabindex", "0");
  const tell = (event) => {
    const word = event.target.closest(".words > span[title]");
    if (word) word.closest(".instance").querySelector(".readout").textContent =
      `${word.parentElement.dataset.name}: ${word.title}`;
  };
  list.addEventListener("mouseover", tell);
  list.addEventListener("focusin", tell);
  list.addEventListener("keydown", (event) => {
    const word = event.target.closest(".words > span");
    if (!word) return;
    const next = { ArrowRight: word.nextElementSibling, ArrowLeft: word.previousElementSibling,
      Home: word.parentElement.firstElementChild, End: word.parentElement.lastElementChild }[event.key];
    if (!next) return;
    event.preventDefault();
    word.setAttribute("tabindex", "-1");
    next.setAttribute("tabindex", "0");
    next.focus();
  });
  controls.hidden = false;
  update();
}
