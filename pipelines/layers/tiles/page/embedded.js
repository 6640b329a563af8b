// Labels of tiles that are in the page.
function labelSource(data) {
  "use strict";
  function imageAt(zoom, x, y) {
    return data.images[data.tiles[[zoom, x, y].join("/")]];
  }

  // The class of a pixel is that of its color in the deepest zoom.
  function at(latlng, map) {
    const place = map.project(latlng.wrap(), data.zoom).floor();
    const tile = place.divideBy(256).floor();
    const found = imageAt(data.zoom, tile.x, tile.y);
    if (found === undefined) {
      return Promise.resolve([{ text: "no class" }]);
    }
    const image = new Image();
    image.src = found;
    return image.decode().then(function () {
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 256;
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const inner = place.subtract(tile.multiplyBy(256));
      const [red, green, blue, alpha] = context.getImageData(inner.x, inner.y, 1, 1).data;
      const color = "#" + [red, green, blue].map((part) => part.toString(16).padStart(2, "0")).join("");
      return [{ text: alpha === 255 ? data.classes[color.toUpperCase()] : "no class" }];
    });
  }
  return { tile: async (zoom, x, y) => imageAt(zoom, x, y), at: at };
}
