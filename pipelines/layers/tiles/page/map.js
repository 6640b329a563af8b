(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const [west, south, east, north] = data.bounds;
  const map = L.map("map", {
    attributionControl: false,
    minZoom: data.minZoom,
    maxZoom: data.zoom + 4,
    maxBoundsViscosity: 1,
  });
  const Labels = L.GridLayer.extend({
    createTile: function (at) {
      const number = data.tiles[[at.z, at.x, at.y].join("/")];
      if (number === undefined) {
        return document.createElement("div");
      }
      const image = document.createElement("img");
      image.alt = "";
      image.src = data.images[number];
      return image;
    },
  });
  const labels = new Labels({ noWrap: true, minNativeZoom: data.minZoom, maxNativeZoom: data.zoom });
  labels.addTo(map);
  L.control.scale().addTo(map);
  map.fitBounds([[south, west], [north, east]]);

  document.getElementById("opacity").addEventListener("input", function (event) {
    labels.setOpacity(Number(event.target.value));
  });

  // The class of a pixel is that of its color in the deepest zoom.
  map.on("click", function (event) {
    const place = map.project(event.latlng, data.zoom).floor();
    const tile = place.divideBy(256).floor();
    const number = data.tiles[[data.zoom, tile.x, tile.y].join("/")];
    const image = new Image();
    image.onload = function () {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 256;
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const at = place.subtract(tile.multiplyBy(256));
      const [red, green, blue, alpha] = context.getImageData(at.x, at.y, 1, 1).data;
      const color = "#" + [red, green, blue].map((part) => part.toString(16).padStart(2, "0")).join("");
      show(event.latlng, alpha === 255 ? data.classes[color.toUpperCase()] : undefined);
    };
    if (number === undefined) {
      show(event.latlng, undefined);
    } else {
      image.src = data.images[number];
    }
  });

  function show(place, name) {
    const text = document.createElement("span");
    text.textContent = name === undefined ? "no class" : name;
    L.popup().setLatLng(place).setContent(text).openOn(map);
  }
})();
