// Labels of tiles that the server has, and what it says of places.
function labelSource(data, warn) {
  "use strict";
  const archive = data.archive && new pmtiles.PMTiles(data.archive);

  // Its address may be revoked once the image is there.
  async function tile(zoom, x, y, signal) {
    const found = archive
      ? (await archive.getZxy(zoom, x, y))?.data
      : await drawn(`tile/${zoom}/${x}/${y}`, signal);
    return found && URL.createObjectURL(new Blob([found], { type: data.type }));
  }

  async function drawn(address, signal) {
    const answer = await asked(address, signal);
    const missing = answer.headers.get("X-Left-Out");
    if (missing) {
      warn(new Error(decodeURIComponent(missing)));
    }
    const found = await answer.arrayBuffer();
    return found.byteLength ? found : undefined;
  }

  async function asked(address, signal) {
    const answer = await fetch(address, { signal: signal });
    if (!answer.ok) {
      throw new Error((await answer.json()).error);
    }
    return answer;
  }

  async function at(latlng) {
    const place = latlng.wrap();
    const answer = await asked(`place?lon=${place.lng}&lat=${place.lat}`);
    return (await answer.json()).lines;
  }
  return { tile: tile, at: at };
}
