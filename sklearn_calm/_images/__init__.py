"""Images as users hold them, read batch by batch: arrays, files, Dask blocks."""
