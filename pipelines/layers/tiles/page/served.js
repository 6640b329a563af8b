// Labels of the archive that the server reads, and what it says of places.
function labelSource(data) {
  "use strict";
  const archive = new pmtiles.PMTiles("labels.pmtiles");

  // Its address may be revoked once the image is there.
  async function tile(zoom, x, y) {
    const found = await archive.getZxy(zoom, x, y);
    return found && URL.createObjectURL(new Blob([found.data], { type: data.type }));
  }

  async function at(latlng) {
    const place = latlng.wrap();
    const answer = await fetch(`place?lon=${place.lng}&lat=${place.lat}`);
    const found = await answer.json();
    if (!answer.ok) {
      throw new Error(found.error);
    }
    return found.lines;
  }
  return { tile: tile, at: at };
}
