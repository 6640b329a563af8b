(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const source = labelSource(data, warn);
  const map = L.map("map", { attributionControl: false, minZoom: 0, maxZoom: data.zoom + 4 });
  const extent = extentOf(data.scenes.bounds);
  const Labels = L.GridLayer.extend({
    createTile: function (at, done) {
      const image = document.createElement("img");
      image.alt = "";
      image.onload = image.onerror = function () {
        URL.revokeObjectURL(image.src);
        done(null, image);
      };
      // Beyond the antimeridian the world begins anew.
      const side = 2 ** at.z;
      const leaving = new AbortController();
      image.leave = () => leaving.abort();
      source.tile(at.z, ((at.x % side) + side) % side, at.y, leaving.signal).then(
        (address) => (image.src = address ?? L.Util.emptyImageUrl),
        (error) => leaving.signal.aborted || done(error, image),
      );
      return image;
    },
  });
  const labels = new Labels({
    // Without bounds, tiles beyond the edges of the world would be asked for.
    bounds: extent,
    noWrap: true,
    minZoom: data.minZoom,
    maxNativeZoom: data.zoom,
  });
  labels.on("tileerror", (event) => warn(event.error));
  // What is not in the window any more need not be drawn.
  labels.on("tileunload", (event) => event.tile.leave());
  labels.addTo(map);
  L.control.scale().addTo(map);
  // The list of scenes, also for those who have no pointer.
  const list = document.getElementById("scenes");
  data.scenes.places.forEach((place, number) => list.append(new Option(place.name, number)));
  list.addEventListener("change", show);
  show();

  // Scenes that are smaller than a marker have one, at all zooms of the same size.
  const MARKER_PX = 7;
  const markers = L.layerGroup().addTo(map);
  map.on("zoomend", mark);
  mark();

  function mark() {
    markers.clearLayers();
    data.scenes.places.forEach(function (place, number) {
      const box = extentOf(place.bounds);
      const low = map.project(box.getSouthWest()), high = map.project(box.getNorthEast());
      if (Math.max(high.x - low.x, low.y - high.y) < 2 * MARKER_PX) {
        L.circleMarker(map.unproject(low.add(high).divideBy(2)), {
          className: "marker",
          radius: MARKER_PX,
          bubblingMouseEvents: false,
        }).bindTooltip(textOf([place.name])).on("click", function () {
          list.value = number;
          show();
        }).addTo(markers);
      }
    });
  }

  function extentOf([west, south, east, north]) {
    return L.latLngBounds([south, west], [north, east]);
  }

  function show() {
    const box = list.value === "" ? extent : extentOf(data.scenes.places[list.value].bounds);
    map.fitBounds(box, { padding: [16, 16] });
  }

  document.getElementById("opacity").addEventListener("input", function (event) {
    labels.setOpacity(Number(event.target.value));
  });

  // What scenes show, asked for when somebody wants to see it.
  const images = document.getElementById("images");
  if (images) {
    map.createPane("images").style.zIndex = 150;
    const below = L.layerGroup();
    data.images.forEach(function ([west, south, east, north], number) {
      // What takes precedence lies above.
      const options = { pane: "images", zIndex: -number };
      const image = L.imageOverlay(`image/${number}`, [[south, west], [north, east]], options);
      image.on("error", function () {
        below.removeLayer(image);
        say(["A scene cannot be read any more: it is left out"]);
      });
      below.addLayer(image);
    });
    const toggle = () => (images.checked ? below.addTo(map) : below.remove());
    images.addEventListener("change", toggle);
    toggle();
  }

  // What lies on the labels; each can be hidden. The server has all of it, the page what is in view.
  document.querySelectorAll("[data-overlay]").forEach(function (box) {
    const name = box.dataset.overlay, overlay = data.overlays[name];
    const style = { color: overlay.color, weight: 2, fillOpacity: 0, radius: 6 };
    const layer = L.geoJSON(null, {
      style: style,
      interactive: overlay.named,
      pointToLayer: (feature, place) => (feature.properties.count ? sum : point)(feature, place),
      onEachFeature: function (feature, one) {
        if (overlay.named || feature.properties.count) {
          one.bindTooltip(textOf([feature.properties.name]));
        }
      },
    }).addTo(map);
    let asked = 0;
    box.addEventListener("change", draw);
    map.on("moveend", draw);
    draw();

    async function draw() {
      const number = ++asked;
      const found = box.checked ? await inView().catch((error) => say([error.message])) : [];
      // The view may have gone on meanwhile.
      if (found && number === asked) {
        layer.clearLayers().addData(found);
      }
    }

    async function inView() {
      const view = map.getBounds();
      if (!view.intersects(extent)) {
        return [];
      }
      const sides = [
        Math.max(view.getWest(), extent.getWest()), Math.max(view.getSouth(), extent.getSouth()),
        Math.min(view.getEast(), extent.getEast()), Math.min(view.getNorth(), extent.getNorth()),
      ];
      const answer = await fetch(`overlays?name=${name}&bbox=${sides}`);
      const found = await answer.json();
      if (!answer.ok) {
        throw new Error(found.error);
      }
      return found.features;
    }

    function point(feature, place) {
      return L.circleMarker(place, style);
    }

    function sum(feature, place) {
      const icon = L.divIcon({ className: "sum", html: textOf([feature.properties.count]), iconSize: null });
      icon.options.html.style.borderColor = overlay.color;
      const marker = L.marker(place, { icon: icon, keyboard: false });
      return marker.on("click", () => map.setView(place, map.getZoom() + 2));
    }
  });

  map.on("click", (event) => ask(event.latlng));
  map.getContainer().addEventListener("keydown", function (event) {
    if (event.key === "Enter" && event.target === map.getContainer()) {
      ask(map.getCenter());
    }
  });

  function ask(place) {
    source.at(place, map).then(
      function (lines) {
        const texts = lines.map((line) => line.text), answer = textOf(texts);
        lines.forEach(function (line, number) {
          if (line.row) {
            const link = document.createElement("a");
            link.href = line.row;
            link.textContent = "areas of this scene";
            answer.children[number].append(" ", link);
          }
        });
        // Beside the buttons, also on a phone.
        const room = { maxWidth: Math.min(300, map.getSize().x - 120), autoPanPaddingTopLeft: [52, 5] };
        L.popup(room).setLatLng(place).setContent(answer).openOn(map);
        say(texts);
      },
      (error) => say([`The class cannot be read: ${error.message}`]),
    );
  }

  function warn(error) {
    say([`Tiles cannot be read: ${error.message}`]);
  }

  function say(lines) {
    document.getElementById("status").textContent = lines.join(", ");
  }

  function textOf(lines) {
    const text = document.createElement("div");
    for (const line of lines) {
      const part = document.createElement("div");
      part.textContent = line;
      text.append(part);
    }
    return text;
  }
})();
