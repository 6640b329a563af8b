"""Command-line kit: parser, values, exit status and process flags; standard library only."""
