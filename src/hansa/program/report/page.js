"use strict";
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const stored = () => { try { return localStorage.getItem("hansa-theme"); } catch { return null; } };
  if (stored()) root.dataset.theme = stored();
  button.hidden = false;
  button.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("hansa-theme", root.dataset.theme); } catch { /* not kept */ }
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
  const svgName = "http://www.w3.org/2000/svg", said = document.getElementById("said");
  const made = (name, attributes) => {
    const found = document.createElementNS(svgName, name);
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    return found;
  };
  for (const chart of document.querySelectorAll("svg.rounds")) {
    const series = JSON.parse(chart.dataset.series), unit = chart.dataset.unit;
    const [first, last, low, high, height] = JSON.parse(chart.dataset.frame);
    const rounds = [...new Set(series.flatMap((line) => line.points.map(([number]) => number)))].sort((a, b) => a - b);
    const x = (number) => (number - first) / (last - first);
    // The browser would show the title over the values.
    const title = chart.querySelector("title");
    chart.setAttribute("aria-label", title.textContent);
    title.remove();
    let at = rounds.length - 1, marks = null, tip = null;
    const hide = () => { marks?.remove(); tip?.remove(); marks = tip = null; };
    const show = (index) => {
      hide();
      at = Math.min(Math.max(index, 0), rounds.length - 1);
      const number = rounds[at], place = x(number), lines = [`Round ${number.toLocaleString("en")}`];
      const across = `${100 * place}%`;
      marks = made("g", {});
      marks.append(made("line", { x1: across, x2: across, y1: 0, y2: height, class: "cursor" }));
      for (const line of series) {
        const found = line.points.find(([round]) => round === number);
        if (!found) continue;
        lines.push(`${line.label}  ${found[1]}${unit}`);
        const y = height - height * (Number(found[1]) - low) / (high - low);
        if (Number.isFinite(y)) marks.append(made("circle", { cx: across, cy: y, r: 4.5, class: line.main ? "main" : "side" }));
      }
      chart.append(marks);
      tip = document.createElement("div");
      tip.className = "tip";
      tip.textContent = lines.join("\n");
      const figure = chart.closest("figure");
      figure.append(tip);
      const box = chart.getBoundingClientRect(), around = figure.getBoundingClientRect();
      const room = around.width - tip.offsetWidth - 4;
      const beside = box.left - around.left + place * box.width + (place > 0.5 ? -tip.offsetWidth - 10 : 10);
      tip.style.left = `${Math.max(4, Math.min(room, beside))}px`;
      tip.style.top = `${box.top - around.top + 4}px`;
      return lines.join(", ");
    };
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect(), place = (event.clientX - box.left) / box.width;
      let best = 0;
      rounds.forEach((number, index) => { if (Math.abs(x(number) - place) < Math.abs(x(rounds[best]) - place)) best = index; });
      show(best);
    });
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("focus", () => { if (chart.matches(":focus-visible")) said.textContent = show(at); });
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -rounds.length, End: rounds.length }[event.key];
      if (event.key === "Escape") hide();
      if (step === undefined) return;
      event.preventDefault();
      said.textContent = show(at + step);
    });
  }
})();
