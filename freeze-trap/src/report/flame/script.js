"use strict";
// Zooming and searching for each flame graph of the document. A click or Enter on a tile widens it, Escape shows the
// whole graph again, arrow keys go from tile to tile.
for (const svg of document.querySelectorAll("svg.flame")) {
  const LETTER = 7.3;
  const SLACK = 0.03;
  const tiles = [...svg.querySelectorAll("g.tile")].map(group => {
    const rect = group.querySelector("rect");
    const [x, y, width] = ["x", "y", "width"].map(name => Number(rect.getAttribute(name)));
    return { group, rect, text: group.querySelector("text"), name: group.dataset.name, x, y, width };
  });
  const root = tiles[0];
  if (!root) continue;
  const row = Number(root.rect.getAttribute("height")) + 1;
  const [detail, searcher, resetter] = ["detail", "search", "reset"].map(name => svg.querySelector("text." + name));

  const holds = (outer, inner) =>
    outer.x <= inner.x + SLACK && outer.x + outer.width + SLACK >= inner.x + inner.width;
  const draw = (tile, x, width) => {
    tile.rect.setAttribute("x", x);
    tile.rect.setAttribute("width", width);
    tile.text.setAttribute("x", x + 3);
    const room = Math.floor((width - 6) / LETTER);
    const clipped = room < 3 ? "" : tile.name.slice(0, room - 1) + "…";
    tile.text.textContent = tile.name.length <= room ? tile.name : clipped;
  };
  const zoom = chosen => {
    const scale = root.width / chosen.width;
    for (const tile of tiles) {
      const below = tile.y > chosen.y && holds(tile, chosen);
      const above = tile.y <= chosen.y && holds(chosen, tile);
      tile.group.classList.toggle("away", !below && !above);
      if (below) draw(tile, root.x, root.width);
      if (above) draw(tile, root.x + (tile.x - chosen.x) * scale, tile.width * scale);
    }
    svg.classList.toggle("zoomed", chosen !== root);
  };
  const tell = tile => {
    detail.textContent = tile.group.querySelector("title").textContent;
  };

  const search = () => {
    const asked = prompt("Functions whose names match (a regular expression):", "");
    if (asked === null) return;
    let wanted = null;
    try {
      wanted = asked === "" ? null : new RegExp(asked, "i");
    } catch (error) {
      detail.textContent = error.message;
      return;
    }
    let [sum, end] = [0, 0];
    const found = tiles.filter(tile => wanted !== null && wanted.test(tile.name));
    for (const tile of tiles) tile.group.classList.toggle("found", found.includes(tile));
    for (const tile of found.sort((one, other) => one.x - other.x)) {
      sum += Math.max(0, tile.x + tile.width - Math.max(end, tile.x));
      end = Math.max(end, tile.x + tile.width);
    }
    const share = (100 * sum / root.width).toFixed(1);
    detail.textContent = wanted === null ? "" : `${found.length} found, with ${share} % of the time`;
  };

  const beside = (tile, key) => {
    const shown = tiles.filter(other => !other.group.classList.contains("away"));
    const at = y => shown.filter(other => Math.abs(other.y - y) < 1);
    if (key === "ArrowUp") return at(tile.y - row).find(other => holds(tile, other));
    if (key === "ArrowDown") return at(tile.y + row).find(other => holds(other, tile));
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    const level = at(tile.y);
    return step && level[level.indexOf(tile) + step];
  };
  const focus = tile => {
    for (const other of tiles) other.group.setAttribute("tabindex", other === tile ? "0" : "-1");
    tile.group.focus();
  };

  svg.classList.add("live");
  svg.setAttribute("role", "group");
  for (const tile of tiles) {
    tile.group.setAttribute("role", "button");
    tile.group.setAttribute("tabindex", tile === root ? "0" : "-1");
    tile.group.addEventListener("click", () => zoom(tile));
    tile.group.addEventListener("mouseenter", () => tell(tile));
    tile.group.addEventListener("focus", () => tell(tile));
    tile.group.addEventListener("keydown", event => {
      const next = beside(tile, event.key);
      if (next) focus(next);
      else if (event.key === "Enter" || event.key === " ") zoom(tile);
      else if (event.key === "Escape") zoom(root);
      else return;
      event.preventDefault();
    });
  }
  for (const [button, act] of [[searcher, search], [resetter, () => zoom(root)]]) {
    button.setAttribute("role", "button");
    button.setAttribute("tabindex", "0");
    button.addEventListener("click", act);
    button.addEventListener("keydown", event => {
      if (event.key !== "Enter" && event.key !== " ") return;
      act();
      event.preventDefault();
    });
  }
}
