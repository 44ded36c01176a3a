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
  const svgName = "http://www.w3.org/2000/svg";
  for (const chart of document.querySelectorAll("svg.rounds")) {
    const series = JSON.parse(chart.dataset.series), unit = chart.dataset.unit;
    const [left, right, first, last, low, high, top, bottom] = JSON.parse(chart.dataset.frame);
    const rounds = [...new Set(series.flatMap((line) => line.points.map(([number]) => number)))].sort((a, b) => a - b);
    const x = (number) => left + (right - left) * (last > first ? (number - first) / (last - first) : 0);
    let at = rounds.length - 1, marks = null, tip = null;
    const hide = () => { marks?.remove(); tip?.remove(); marks = tip = null; };
    const show = (index) => {
      hide();
      at = Math.min(Math.max(index, 0), rounds.length - 1);
      const number = rounds[at], place = x(number), lines = [`round ${number.toLocaleString("en")}`];
      marks = document.createElementNS(svgName, "g");
      const cursor = document.createElementNS(svgName, "line");
      for (const [name, value] of [["x1", place], ["x2", place], ["y1", top], ["y2", bottom]]) cursor.setAttribute(name, value);
      cursor.setAttribute("class", "cursor");
      marks.append(cursor);
      for (const line of series) {
        const found = line.points.find(([round]) => round === number);
        if (!found) continue;
        lines.push(`${line.label}  ${found[1]}${unit}`);
        if (!Number.isFinite(Number(found[1]))) continue;
        const dot = document.createElementNS(svgName, "circle");
        const y = bottom - (bottom - top) * (Number(found[1]) - low) / (high - low);
        for (const [name, value] of [["cx", place], ["cy", y], ["r", 4]]) dot.setAttribute(name, value);
        dot.setAttribute("class", line.main ? "main" : "side");
        marks.append(dot);
      }
      chart.append(marks);
      tip = document.createElement("div");
      tip.className = "tip";
      tip.setAttribute("role", "status");
      tip.textContent = lines.join("\n");
      chart.parentNode.append(tip);
      const scale = chart.clientWidth / 400, room = chart.parentNode.clientWidth - tip.offsetWidth - 4;
      const wanted = chart.offsetLeft || 14;
      const beside = place * scale + wanted + (place > 220 ? -tip.offsetWidth - 10 : 10);
      tip.style.left = `${Math.max(4, Math.min(room, beside))}px`;
      tip.style.top = `${chart.getBoundingClientRect().top - chart.parentNode.getBoundingClientRect().top + 4}px`;
    };
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect(), place = (event.clientX - box.left) * 400 / box.width;
      let best = 0;
      rounds.forEach((number, index) => { if (Math.abs(x(number) - place) < Math.abs(x(rounds[best]) - place)) best = index; });
      show(best);
    });
    chart.addEventListener("pointerleave", hide);
    chart.addEventListener("focus", () => { if (chart.matches(":focus-visible")) show(at); });
    chart.addEventListener("blur", hide);
    chart.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1, Home: -rounds.length, End: rounds.length }[event.key];
      if (event.key === "Escape") hide();
      if (step === undefined) return;
      event.preventDefault();
      show(at + step);
    });
  }
})();
