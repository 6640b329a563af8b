// Labels of the archive that the server reads, and what it says of places.
function labelSource(data) {
  "use strict";
  const archive = new pmtiles.PMTiles("labels.pmtiles");
  const Layer = L.GridLayer.extend({
    createTile: function (at, done) {
      const image = document.createElement("img");
      image.alt = "";
      archive.getZxy(at.z, at.x, at.y).then(function (found) {
        const address = found === undefined
          ? L.Util.emptyImageUrl
          : URL.createObjectURL(new Blob([found.data], { type: data.type }));
        image.onload = image.onerror = function () {
          URL.revokeObjectURL(address);
          done(null, image);
        };
        image.src = address;
      }).catch((error) => done(error, image));
      return image;
    },
  });

  async function at(latlng) {
    const place = latlng.wrap();
    const answer = await fetch(`place?lon=${place.lng}&lat=${place.lat}`);
    const found = await answer.json();
    if (!answer.ok) {
      throw new Error(found.error);
    }
    return found.lines;
  }
  return { Layer: Layer, at: at };
}
