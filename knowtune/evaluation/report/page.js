"use strict";
(() => {
  const all = (query, top = document) => [...top.querySelectorAll(query)];
  const data = (id) => JSON.parse(document.getElementById(id)?.textContent ?? "null");
  const make = (tag, text, name) => Object.assign(document.createElement(tag), { textContent: text, className: name ?? "" });

  // A fold that an address or a link leads to opens.
  const unfold = (id) => { const at = id && document.getElementById(id); if (at?.matches("details")) at.open = true; return at; };
  const follow = () => unfold(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
  addEventListener("hashchange", follow);
  if (location.hash) follow();

  // A click on a head sorts: the better values first, then the other way round; rows without a value stay last.
  for (const table of all("table.sortable")) {
    const [body] = table.tBodies;
    all("thead th", table).forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const first = head.dataset.first ?? "descending";
      const other = first === "descending" ? "ascending" : "descending";
      const way = head.getAttribute("aria-sort") === first ? other : first;
      all("th[aria-sort]", table).forEach((one) => one.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", way);
      const sign = way === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      body.append(...[...body.rows].sort((a, b) => {
        const [one, two] = [value(a), value(b)];
        if (one === "" || two === "") return (one === "") - (two === "");
        return sign * (isNaN(one) || isNaN(two) ? one.localeCompare(two) : one - two);
      }));
    }));
  }

  // A point and its line in a table belong together: pointing lights both, a click shows the model's rows.
  const models = data("models") ?? {};
  const tip = document.getElementById("tip");
  const light = (number, on) => all(`[data-model="${number}"]`).forEach((one) => one.classList.toggle("lit", on));
  const show = (one, x, y) => {
    tip.textContent = models[one.dataset.model]?.tip ?? "";
    tip.hidden = !tip.textContent;
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${y + 18 + tip.offsetHeight > innerHeight ? Math.max(4, y - tip.offsetHeight - 12) : y + 18}px`;
  };
  for (const one of all("[data-model]")) {
    const number = one.dataset.model;
    const drawn = one.closest("svg");
    const leave = () => { light(number, false); tip.hidden = true; };
    if (drawn) one.setAttribute("aria-label", models[number]?.tip ?? "");
    one.addEventListener("pointerenter", (event) => { light(number, true); if (drawn) show(one, event.clientX, event.clientY); });
    one.addEventListener("pointerleave", leave);
    one.addEventListener("focus", () => { const box = one.getBoundingClientRect(); light(number, true); if (drawn) show(one, box.right, box.bottom); });
    one.addEventListener("blur", leave);
    one.addEventListener("click", () => { leave(); open(models[number]?.name); });
    one.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(models[number]?.name); } });
  }

  // The rows of a model: which facts it lost, learned, or did not learn.
  const facts = data("rows");
  const form = document.getElementById("rows-of");
  const open = (name) => {
    if (!facts?.models[name]) return;
    form.elements.model.value = name;
    list();
    unfold("facts");
    document.getElementById("rows-part").scrollIntoView({ block: "start" });
  };
  const verdicts = (name) => {
    const model = facts.models[name];
    return facts.rows.map(([relation, kind, prompt, target, base, answer], index) => {
      const row = { relation: facts.relations[relation], kind: facts.kinds[kind], prompt, target, base, answer };
      const right = parseInt(model.right[index], 36);
      const now = 2 * right > model.seeds;
      const what = row.base ? (now ? "kept" : "lost") : now ? "learned" : "not learned";
      return { row, index, right, seeds: model.seeds, what, answer: model.answers[index] ?? row.target };
    });
  };
  let limit = 50;
  const list = () => {
    const { model, what, relation, words } = form.elements;
    const sought = words.value.toLowerCase();
    const every = verdicts(model.value);
    const chosen = every.filter((one) => (!what.value || one.what === what.value) && (!relation.value || one.row.relation === relation.value)
      && (!sought || `${one.row.prompt} ${one.row.target} ${one.answer}`.toLowerCase().includes(sought)));
    const of = (name) => every.filter((one) => one.what === name).length;
    const counts = ["learned", "not learned", "kept", "lost"].map((name) => `${of(name)} ${name}`).join(", ");
    document.getElementById("rows-count").textContent = `${chosen.length} of ${every.length} rows (${counts})`;
    document.querySelector("#rows-table tbody").replaceChildren(...chosen.slice(0, limit).map((one) => {
      const line = document.createElement("tr");
      line.append(make("td", one.row.prompt, "text"), make("td", one.row.target, "text"), make("td", one.row.base ? "right" : one.row.answer || "–", "text"),
        make("td", 2 * one.right > one.seeds ? "right" : one.answer || "–", "text"), make("td", `${one.right} of ${one.seeds}`), make("td", one.what, "left"),
        make("td", one.row.kind, "left"), make("td", one.row.relation, "left"));
      return line;
    }));
    const more = document.getElementById("rows-more");
    more.hidden = chosen.length <= limit;
    more.textContent = `Show ${Math.min(100, chosen.length - limit)} more`;
  };
  if (facts && form) {
    for (const name of facts.relations) form.elements.relation.add(new Option(name || "(none)", name));
    form.addEventListener("input", () => { limit = 50; list(); });
    form.addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("rows-more").addEventListener("click", () => { limit += 100; list(); });
    list();
  }
})();
